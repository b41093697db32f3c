//! Reads the 8 kHz weights of Silero VAD out of an ONNX file.
//!
//! A file's bytes flow in, 14 named `f32` tensors flow out; nothing else of ONNX is understood. Two layouts are
//! accepted: `silero_vad.onnx` of the Python package silero-vad 6.2.3, which keeps the 8 kHz weights as `Constant`
//! nodes inside the `else_branch` of an `If`, and `silero_vad_op18_ifless.onnx`, which keeps them as initialisers
//! (the two files hold different weights). Source: the protobuf encoding and `onnx.proto` (field numbers below).
//!
//! The reader walks borrowed bytes with a bounded depth and never panics, whatever the bytes are.

/// Why the weights could not be read from a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are not well-formed protobuf, or nest deeper than any ONNX file of this model.
    #[error("the model file is not well-formed onnx")]
    Malformed,
    /// A tensor of the 8 kHz network is not in the file.
    #[error("the model file holds no 8 khz tensor `{0}`")]
    Missing(&'static str),
    /// A tensor does not have the shape or type the network needs.
    #[error("tensor `{name}` of the model file holds {found} values of f32, not {expected}")]
    Shape {
        /// The tensor's name.
        name: &'static str,
        /// Values found; zero when the type is not f32.
        found: usize,
        /// Values needed.
        expected: usize,
    },
}

/// Names and sizes of the tensors, in the order of [`read`]'s result.
pub(super) const TENSORS: [(&str, usize); 14] = [
    ("stft.forward_basis_buffer", 130 * 128),
    ("encoder.0.reparam_conv.weight", 128 * 65 * 3),
    ("encoder.0.reparam_conv.bias", 128),
    ("encoder.1.reparam_conv.weight", 64 * 128 * 3),
    ("encoder.1.reparam_conv.bias", 64),
    ("encoder.2.reparam_conv.weight", 64 * 64 * 3),
    ("encoder.2.reparam_conv.bias", 64),
    ("encoder.3.reparam_conv.weight", 128 * 64 * 3),
    ("encoder.3.reparam_conv.bias", 128),
    ("decoder.rnn.weight_ih", 512 * 128),
    ("decoder.rnn.weight_hh", 512 * 128),
    ("decoder.rnn.bias_ih", 512),
    ("decoder.rnn.bias_hh", 512),
    ("decoder.decoder.2.weight", 128),
];
/// The fifteenth tensor, a scalar.
pub(super) const OUTPUT_BIAS: &str = "decoder.decoder.2.bias";

const IN_BRANCH: &str = "If_0_else_branch__Inline_0__";
const IFLESS: &str = "model_8k.";
const MAX_DEPTH: u32 = 4;

/// The tensors of [`TENSORS`] in that order, and the output bias.
pub(super) fn read(file: &[u8]) -> Result<([Vec<f32>; 14], f32), WeightsError> {
    let mut found = Found { raw: [None; 15] };
    for field in Fields(file) {
        // ModelProto.graph = 7
        if let Some(graph) = field?.message(7) {
            walk_graph(graph, 0, &mut found)?;
        }
    }
    let mut tensors: [Vec<f32>; 14] = Default::default();
    for (i, &(name, expected)) in TENSORS.iter().enumerate() {
        tensors[i] = floats(found.raw[i].ok_or(WeightsError::Missing(name))?, name, expected)?;
    }
    let bias = floats(found.raw[14].ok_or(WeightsError::Missing(OUTPUT_BIAS))?, OUTPUT_BIAS, 1)?;
    Ok((tensors, bias[0]))
}

/// The little-endian f32 values of a raw tensor.
fn floats(tensor: Tensor<'_>, name: &'static str, expected: usize) -> Result<Vec<f32>, WeightsError> {
    let found = if tensor.is_f32 && tensor.raw.len().is_multiple_of(4) { tensor.raw.len() / 4 } else { 0 };
    if found != expected {
        return Err(WeightsError::Shape { name, found, expected });
    }
    let values: Vec<f32> =
        tensor.raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(WeightsError::Malformed) }
}

#[derive(Clone, Copy, Default)]
struct Tensor<'a> {
    name: &'a [u8],
    is_f32: bool,
    raw: &'a [u8],
}

struct Found<'a> {
    raw: [Option<Tensor<'a>>; 15],
}

impl<'a> Found<'a> {
    fn offer(&mut self, name: &[u8], prefix: &str, tensor: Tensor<'a>) {
        let Some(name) = name.strip_prefix(prefix.as_bytes()) else { return };
        let names = TENSORS.iter().map(|t| t.0).chain([OUTPUT_BIAS]);
        for (slot, wanted) in self.raw.iter_mut().zip(names) {
            if wanted.as_bytes() == name {
                *slot = Some(tensor);
            }
        }
    }
}

fn walk_graph<'a>(graph: &'a [u8], depth: u32, found: &mut Found<'a>) -> Result<(), WeightsError> {
    if depth > MAX_DEPTH {
        return Err(WeightsError::Malformed);
    }
    for field in Fields(graph) {
        let field = field?;
        // GraphProto.node = 1, initializer = 5
        if let Some(node) = field.message(1) {
            walk_node(node, depth, found)?;
        } else if let Some(tensor) = field.message(5) {
            let tensor = read_tensor(tensor)?;
            found.offer(tensor.name, IFLESS, tensor);
        }
    }
    Ok(())
}

fn walk_node<'a>(node: &'a [u8], depth: u32, found: &mut Found<'a>) -> Result<(), WeightsError> {
    let mut output: &[u8] = &[];
    let mut value = None;
    for field in Fields(node) {
        let field = field?;
        // NodeProto.output = 2, attribute = 5
        if let Some(name) = field.message(2) {
            output = name;
        } else if let Some(attribute) = field.message(5) {
            for field in Fields(attribute) {
                let field = field?;
                // AttributeProto.t = 5, g = 6
                if let Some(tensor) = field.message(5) {
                    value = Some(read_tensor(tensor)?);
                } else if let Some(graph) = field.message(6) {
                    walk_graph(graph, depth + 1, found)?;
                }
            }
        }
    }
    if let Some(tensor) = value {
        found.offer(output, IN_BRANCH, tensor);
    }
    Ok(())
}

fn read_tensor(bytes: &[u8]) -> Result<Tensor<'_>, WeightsError> {
    let mut tensor = Tensor::default();
    for field in Fields(bytes) {
        let field = field?;
        // TensorProto.data_type = 2 (FLOAT = 1), name = 8, raw_data = 9
        match (field.number, field.value) {
            (2, Value::Varint(kind)) => tensor.is_f32 = kind == 1,
            (8, Value::Bytes(name)) => tensor.name = name,
            (9, Value::Bytes(raw)) => tensor.raw = raw,
            _ => {}
        }
    }
    Ok(tensor)
}

struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

impl<'a> Field<'a> {
    fn message(&self, number: u64) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message; ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(head)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some(Field { number: key >> 3, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WeightsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(WeightsError::Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
pub(super) use tests::small_model;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(mut v: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while v >= 0x80 {
            out.push((v & 0x7f) as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
        out
    }

    fn bytes_field(number: usize, body: &[u8]) -> Vec<u8> {
        let mut out = varint(number << 3 | 2);
        out.extend(varint(body.len()));
        out.extend_from_slice(body);
        out
    }

    fn tensor(name: &str, values: &[f32]) -> Vec<u8> {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        [vec![2 << 3, 1], bytes_field(8, name.as_bytes()), bytes_field(9, &raw)].concat()
    }

    /// A file of the packaged layout (weights inside the `If`'s else branch) holding pseudo-random weights.
    pub(in crate::detect) fn small_model() -> Vec<u8> {
        let mut state = 7u32;
        let mut nodes = Vec::new();
        for (name, size) in TENSORS.iter().copied().chain([(OUTPUT_BIAS, 1)]) {
            let values: Vec<f32> = (0..size)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 16) as f32 / 32768.0 - 1.0) * 0.1
                })
                .collect();
            let attribute = bytes_field(5, &tensor(name, &values));
            let output = format!("{IN_BRANCH}{name}");
            let node = [bytes_field(2, output.as_bytes()), bytes_field(5, &attribute)].concat();
            nodes.extend(bytes_field(1, &node));
        }
        let branch = bytes_field(5, &bytes_field(6, &nodes));
        bytes_field(7, &bytes_field(1, &branch))
    }

    #[test]
    fn tensors_in_the_else_branch_are_found_by_name() {
        let (tensors, bias) = read(&small_model()).expect("a whole model");
        for (t, (_, size)) in tensors.iter().zip(TENSORS) {
            assert_eq!(t.len(), size);
        }
        assert!(bias != 0.0);
    }

    #[test]
    fn initialisers_of_the_ifless_file_are_found_too() {
        let mut graph = Vec::new();
        for (name, size) in TENSORS.iter().copied().chain([(OUTPUT_BIAS, 1)]) {
            graph.extend(bytes_field(5, &tensor(&format!("{IFLESS}{name}"), &vec![0.5; size])));
        }
        assert_eq!(read(&bytes_field(7, &graph)).expect("a whole model").1, 0.5);
    }

    #[test]
    fn a_missing_or_short_tensor_is_named() {
        assert_eq!(read(&[]), Err(WeightsError::Missing("stft.forward_basis_buffer")));
        let short = bytes_field(5, &tensor(&format!("{IFLESS}{}", TENSORS[0].0), &[1.0; 3]));
        let wrong = WeightsError::Shape { name: TENSORS[0].0, found: 3, expected: 130 * 128 };
        assert_eq!(read(&bytes_field(7, &short)), Err(wrong));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut graph = Vec::new();
        for _ in 0..1000 {
            graph = bytes_field(1, &bytes_field(5, &bytes_field(6, &graph)));
        }
        assert_eq!(read(&bytes_field(7, &graph)), Err(WeightsError::Malformed));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn damaged_files_never_panic(cut in 0.0f64..1.0, flips in prop::collection::vec((0usize..4000, any::<u8>()), 0..8)) {
            let mut file = small_model();
            // The structure sits in the first bytes and around each tensor's end; damage both.
            for (at, byte) in flips {
                let at = if byte & 1 == 0 { at } else { at * file.len() / 4000 };
                if let Some(b) = file.get_mut(at) { *b = byte; }
            }
            let len = (file.len() as f64 * cut) as usize;
            let _ = read(&file[..len]);
            let _ = read(&file);
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&noise);
        }
    }
}
