//! Whether bytes can be an ONNX file at all, asked before the real reader sees them: `rten-onnx` 0.27 never returns from
//! a number of ten continuation bytes (its `read_varint` loops), which is what a damaged file may hold.
//!
//! In: the file. Out: yes, or what is wrong. Walks the model, its graph and the graph's members, not deeper.
//! Source: the Protocol Buffers wire format, and `onnx.proto` for field numbers.

const MODEL_GRAPH: u64 = 7;

/// Walks the file's outer messages.
pub(super) fn check(file: &[u8]) -> Result<(), &'static str> {
    let mut graphs = 0;
    for field in Fields(file) {
        let (number, message) = field?;
        if number != MODEL_GRAPH {
            continue;
        }
        graphs += 1;
        for member in Fields(message) {
            // Strings are members too and need not be messages, so only this one complaint counts.
            if Fields(member?.1).any(|field| field == Err(ENDLESS)) {
                return Err(ENDLESS);
            }
        }
    }
    if graphs == 1 { Ok(()) } else { Err("not an ONNX file: no graph in it") }
}

const ENDLESS: &str = "not an ONNX file: a number without an end";
const SHORT: &str = "not an ONNX file, or cut short";

/// The fields of one message: number, and content where it has a length.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for i in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(SHORT)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ENDLESS)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(length).map_err(|_| SHORT)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, &'a [u8]), &'static str> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => self.varint().map(|_| &[][..])?,
            1 => self.take(8).map(|_| &[][..])?,
            2 => {
                let length = self.varint()?;
                self.take(length)?
            }
            5 => self.take(4).map(|_| &[][..])?,
            _ => return Err(SHORT),
        };
        Ok((key >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_message_with_a_graph_passes() {
        assert_eq!(check(&[0x08, 0x07, 0x3a, 0x00]), Ok(()));
        assert!(check(b"").is_err());
        assert!(check(&[0x08, 0x07]).is_err());
        assert_eq!(check(&[0x08, 0x07, 0x3a, 0x05]), Err(SHORT));
        assert_eq!(check(&[0xff; 64]), Err(ENDLESS));
        assert_eq!(check(b"<html>nothing here</html>"), Err(SHORT));
    }

    #[test]
    fn an_endless_number_inside_the_graph_is_found() {
        let mut file = vec![0x3a, 14, 0x0a, 12];
        file.extend([0xff; 12]);
        assert_eq!(check(&file), Err(ENDLESS));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = check(&bytes);
        }
    }
}
