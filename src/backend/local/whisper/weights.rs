//! The network's weights in the form the forward pass wants: the encoder and the cross-attention's keys and values
//! as `f32`, everything the decoder multiplies per token as 8-bit rows.
//!
//! Shapes come from the file and are checked against each other, so the tests can load a model a thousand times
//! smaller than the real one. Each tensor is converted as it is read.

use std::collections::HashMap;
use std::io::Read;

use super::file::{ModelFile, model_error};
use super::kernels::Int8Rows;
use crate::backend::BackendError;

/// Mel bands.
pub(super) const MELS: usize = 80;
/// Encoder positions of a full 30 s window, 50 a second.
pub(super) const POSITIONS: usize = 1500;
/// Decoder positions: the longest text, prompt included.
pub(super) const TEXT_POSITIONS: usize = 448;
/// Entries of the English-only vocabulary.
pub(super) const VOCABULARY: usize = 51_864;

const MAX_WIDTH: usize = 1024;
const MAX_LAYERS: usize = 24;

/// A linear layer in `f32`; weight [out, in].
pub(super) struct Linear {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// A linear layer in 8 bits.
pub(super) struct Int8Linear {
    pub(super) weight: Int8Rows,
    pub(super) bias: Vec<f32>,
}

/// A layer normalisation.
pub(super) struct Norm {
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
}

/// One encoder layer.
pub(super) struct EncoderLayer {
    pub(super) attention_norm: Norm,
    /// Queries, keys and values, fused.
    pub(super) qkv: Linear,
    pub(super) out: Linear,
    pub(super) ffn_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// One decoder layer.
pub(super) struct DecoderLayer {
    pub(super) attention_norm: Norm,
    /// Queries, keys and values, fused.
    pub(super) qkv: Int8Linear,
    pub(super) out: Int8Linear,
    pub(super) cross_norm: Norm,
    pub(super) cross_query: Int8Linear,
    /// Keys and values of the encoder's output, fused; once per utterance, so it stays `f32`.
    pub(super) cross_kv: Linear,
    pub(super) cross_out: Int8Linear,
    pub(super) ffn_norm: Norm,
    pub(super) up: Int8Linear,
    pub(super) down: Int8Linear,
}

/// All weights.
pub(super) struct Weights {
    /// Model width (384 in tiny).
    pub(super) width: usize,
    /// Attention heads (6 in tiny).
    pub(super) heads: usize,
    /// First convolution; weight [out, 3 × mels], tap by tap.
    pub(super) conv1: Linear,
    /// Second convolution, stride 2; weight [out, 3 × width], tap by tap.
    pub(super) conv2: Linear,
    pub(super) positions: Vec<f32>,
    pub(super) encoder: Vec<EncoderLayer>,
    pub(super) encoder_norm: Norm,
    pub(super) embeddings: Int8Rows,
    pub(super) text_positions: Vec<f32>,
    pub(super) decoder: Vec<DecoderLayer>,
    pub(super) decoder_norm: Norm,
}

enum Tensor {
    Real { dims: Vec<usize>, values: Vec<f32> },
    Int8(Int8Rows),
}

/// What was read and not yet taken.
struct Tensors {
    tensors: HashMap<String, Tensor>,
    settings: HashMap<String, i64>,
}

/// Whether the decoder multiplies with this matrix once per token.
fn wants_int8(name: &str, dims: &[usize]) -> bool {
    dims.len() == 2
        && name.starts_with("decoder/")
        && name.ends_with("/weight")
        && !name.ends_with("/attention/linear_1/weight")
}

impl Tensors {
    fn read(source: impl Read) -> Result<Self, BackendError> {
        let mut file = ModelFile::open(source)?;
        let (mut tensors, mut settings) = (HashMap::new(), HashMap::new());
        while let Some(variable) = file.next_variable()? {
            if !variable.is_float() {
                if let Some(value) = file.read_setting(&variable)? {
                    settings.insert(variable.name, value);
                }
                continue;
            }
            let tensor = if wants_int8(&variable.name, &variable.dims) {
                let (rows, width) = (variable.dims[0], variable.dims[1]);
                let mut matrix = Int8Rows::with_capacity(rows, width);
                let mut row = vec![0.0; width];
                for _ in 0..rows {
                    file.read_floats(&variable, &mut row)?;
                    matrix.push(&row);
                }
                Tensor::Int8(matrix)
            } else {
                let mut values = vec![0.0; variable.len()];
                file.read_floats(&variable, &mut values)?;
                Tensor::Real { dims: variable.dims, values }
            };
            tensors.insert(variable.name, tensor);
        }
        file.finish()?;
        Ok(Self { tensors, settings })
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn setting(&self, name: &str) -> Result<i64, BackendError> {
        let value = self.settings.get(name);
        value.copied().ok_or_else(|| model_error(format!("model.bin has no `{name}`")))
    }

    fn take(&mut self, name: &str) -> Result<Tensor, BackendError> {
        self.tensors.remove(name).ok_or_else(|| model_error(format!("model.bin has no `{name}`")))
    }

    fn real(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BackendError> {
        match self.take(name)? {
            Tensor::Real { dims, values } if dims == shape => Ok(values),
            Tensor::Real { dims, .. } => Err(wrong_shape(name, &dims, shape)),
            Tensor::Int8(m) => Err(wrong_shape(name, &[m.rows(), m.width()], shape)),
        }
    }

    fn int8(&mut self, name: &str, rows: usize, width: usize) -> Result<Int8Rows, BackendError> {
        match self.take(name)? {
            Tensor::Int8(m) if (m.rows(), m.width()) == (rows, width) => Ok(m),
            Tensor::Int8(m) => Err(wrong_shape(name, &[m.rows(), m.width()], &[rows, width])),
            Tensor::Real { dims, .. } => Err(wrong_shape(name, &dims, &[rows, width])),
        }
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, BackendError> {
        Ok(Norm {
            gamma: self.real(&format!("{name}/gamma"), &[width])?,
            beta: self.real(&format!("{name}/beta"), &[width])?,
        })
    }

    fn linear(&mut self, name: &str, rows: usize, width: usize) -> Result<Linear, BackendError> {
        Ok(Linear {
            weight: self.real(&format!("{name}/weight"), &[rows, width])?,
            bias: self.real(&format!("{name}/bias"), &[rows])?,
        })
    }

    fn int8_linear(&mut self, name: &str, rows: usize, width: usize) -> Result<Int8Linear, BackendError> {
        Ok(Int8Linear {
            weight: self.int8(&format!("{name}/weight"), rows, width)?,
            bias: self.real(&format!("{name}/bias"), &[rows])?,
        })
    }

    /// A convolution over three frames with its taps made contiguous: [out, in, 3] to [out, 3, in].
    fn convolution(&mut self, name: &str, rows: usize, channels: usize) -> Result<Linear, BackendError> {
        let weight = self.real(&format!("{name}/weight"), &[rows, channels, 3])?;
        let mut taps = vec![0.0; weight.len()];
        for (taps, weight) in taps.chunks_exact_mut(3 * channels).zip(weight.chunks_exact(3 * channels)) {
            for channel in 0..channels {
                for tap in 0..3 {
                    taps[tap * channels + channel] = weight[channel * 3 + tap];
                }
            }
        }
        Ok(Linear { weight: taps, bias: self.real(&format!("{name}/bias"), &[rows])? })
    }

    fn encoder_layer(&mut self, n: usize, d: usize) -> Result<EncoderLayer, BackendError> {
        let name = format!("encoder/layer_{n}");
        Ok(EncoderLayer {
            attention_norm: self.norm(&format!("{name}/self_attention/layer_norm"), d)?,
            qkv: self.linear(&format!("{name}/self_attention/linear_0"), 3 * d, d)?,
            out: self.linear(&format!("{name}/self_attention/linear_1"), d, d)?,
            ffn_norm: self.norm(&format!("{name}/ffn/layer_norm"), d)?,
            up: self.linear(&format!("{name}/ffn/linear_0"), 4 * d, d)?,
            down: self.linear(&format!("{name}/ffn/linear_1"), d, 4 * d)?,
        })
    }

    fn decoder_layer(&mut self, n: usize, d: usize) -> Result<DecoderLayer, BackendError> {
        let name = format!("decoder/layer_{n}");
        Ok(DecoderLayer {
            attention_norm: self.norm(&format!("{name}/self_attention/layer_norm"), d)?,
            qkv: self.int8_linear(&format!("{name}/self_attention/linear_0"), 3 * d, d)?,
            out: self.int8_linear(&format!("{name}/self_attention/linear_1"), d, d)?,
            cross_norm: self.norm(&format!("{name}/attention/layer_norm"), d)?,
            cross_query: self.int8_linear(&format!("{name}/attention/linear_0"), d, d)?,
            cross_kv: self.linear(&format!("{name}/attention/linear_1"), 2 * d, d)?,
            cross_out: self.int8_linear(&format!("{name}/attention/linear_2"), d, d)?,
            ffn_norm: self.norm(&format!("{name}/ffn/layer_norm"), d)?,
            up: self.int8_linear(&format!("{name}/ffn/linear_0"), 4 * d, d)?,
            down: self.int8_linear(&format!("{name}/ffn/linear_1"), d, 4 * d)?,
        })
    }
}

fn wrong_shape(name: &str, dims: &[usize], shape: &[usize]) -> BackendError {
    model_error(format!("model.bin: `{name}` has shape {dims:?}, not {shape:?}"))
}

impl Weights {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`BackendError::Model`] naming the variable or byte that is wrong.
    pub(super) fn read(source: impl Read) -> Result<Self, BackendError> {
        let mut t = Tensors::read(source)?;
        let d = match t.tensors.get("encoder/layer_norm/gamma") {
            Some(Tensor::Real { dims, .. }) if dims.len() == 1 => dims[0],
            _ => return Err(model_error("model.bin has no `encoder/layer_norm/gamma` of rank 1")),
        };
        let heads = usize::try_from(t.setting("encoder/num_heads")?).unwrap_or(0);
        if d > MAX_WIDTH || heads == 0 || !d.is_multiple_of(heads) {
            return Err(model_error(format!("model.bin: {heads} heads cannot share a width of {d}")));
        }
        for (name, expected) in [
            ("decoder/num_heads", heads as i64),
            ("encoder/pre_norm", 1),
            ("decoder/pre_norm", 1),
            ("decoder/scale_embeddings", 0),
        ] {
            // Absent ones are at their default, which is what is expected.
            let value = t.settings.get(name).copied().unwrap_or(expected);
            if value != expected {
                return Err(model_error(format!("model.bin: `{name}` is {value}, not {expected}")));
            }
        }
        let layers = |t: &Tensors, side: &str| {
            (0..MAX_LAYERS).take_while(|n| t.has(&format!("{side}/layer_{n}/ffn/linear_0/weight"))).count()
        };
        let (encoder_layers, decoder_layers) = (layers(&t, "encoder"), layers(&t, "decoder"));
        if encoder_layers == 0 || decoder_layers == 0 {
            return Err(model_error("model.bin has no layers"));
        }
        Ok(Self {
            width: d,
            heads,
            conv1: t.convolution("encoder/conv1", d, MELS)?,
            conv2: t.convolution("encoder/conv2", d, d)?,
            positions: t.real("encoder/position_encodings/encodings", &[POSITIONS, d])?,
            encoder: (0..encoder_layers).map(|n| t.encoder_layer(n, d)).collect::<Result<_, _>>()?,
            encoder_norm: t.norm("encoder/layer_norm", d)?,
            embeddings: t.int8("decoder/embeddings/weight", VOCABULARY, d)?,
            text_positions: t.real("decoder/position_encodings/encodings", &[TEXT_POSITIONS, d])?,
            decoder: (0..decoder_layers).map(|n| t.decoder_layer(n, d)).collect::<Result<_, _>>()?,
            decoder_norm: t.norm("decoder/layer_norm", d)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::model;
    use super::*;

    fn reason(bytes: &[u8]) -> String {
        Weights::read(bytes).err().expect("malformed").to_string()
    }

    #[test]
    fn a_model_of_any_width_is_assembled() {
        let w = Weights::read(model(|_, _| ()).as_slice()).expect("well-formed");
        assert_eq!((w.width, w.heads, w.encoder.len(), w.decoder.len()), (8, 2, 1, 1));
        assert_eq!(w.decoder[0].cross_kv.weight.len(), 16 * 8);
    }

    #[test]
    fn a_tensor_of_another_shape_is_named() {
        let bad = model(|name, dims| {
            if name == "decoder/layer_0/attention/linear_1/weight" {
                dims[0] = 15;
            }
        });
        assert_eq!(
            reason(&bad),
            "model whisper-tiny.en: model.bin: `decoder/layer_0/attention/linear_1/weight` has shape [15, 8], not [16, 8]"
        );
        let multilingual = model(|name, dims| {
            if name == "decoder/embeddings/weight" {
                dims[0] = 51_865;
            }
        });
        assert!(reason(&multilingual).contains("has shape [51865, 8], not [51864, 8]"));
        let ranks = model(|name, dims| {
            if name == "encoder/layer_norm/gamma" {
                *dims = vec![2, 4];
            }
        });
        assert!(reason(&ranks).contains("`encoder/layer_norm/gamma` of rank 1"));
    }
}
