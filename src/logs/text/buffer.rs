//! Appends short byte strings to a buffer without calling `memcpy`.

/// The size of the blocks that are copied by two vector moves each.
const BLOCK: usize = 32;
/// The length from which a call of `memcpy` costs less than copying block by block.
const LONG: usize = 1024;

/// Appends bytes. A call of musl's `memcpy` costs more than a copy of a whole line in blocks of a fixed size.
#[inline]
pub fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > LONG {
        return buffer.extend_from_slice(bytes);
    }
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().for_each(|block| buffer.extend_from_slice(block));
    let (words, rest) = rest.as_chunks::<8>();
    words.iter().for_each(|word| buffer.extend_from_slice(word));
    let (halves, rest) = rest.as_chunks::<4>();
    halves.iter().for_each(|half| buffer.extend_from_slice(half));
    rest.iter().for_each(|byte| buffer.push(*byte));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whole() {
        let bytes: Vec<u8> = (0..2 * LONG).map(|n| n as u8).collect();
        for length in (0..200).chain(LONG - 1..LONG + 2) {
            let mut buffer = b"before".to_vec();
            append(&mut buffer, &bytes[..length]);
            assert_eq!(buffer, [b"before", &bytes[..length]].concat());
        }
    }
}
