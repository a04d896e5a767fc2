//! Appends short byte strings to a buffer without calling `memcpy`.

/// The size of the blocks that are copied by two vector moves each.
const BLOCK: usize = 64;
/// The length from which a call of `memcpy` costs less than copying block by block.
const LONG: usize = 1024;

/// Appends bytes. A call of musl's `memcpy` costs more than a copy of a whole line in blocks of a fixed size.
///
/// What is left behind the last whole block is copied as the last block of the bytes, which overlaps the one before it: one
/// copy of a fixed size in place of several smaller ones.
#[inline]
pub fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        0..4 => bytes.iter().for_each(|byte| buffer.push(*byte)),
        4..8 => append_blocks::<4>(buffer, bytes),
        8..16 => append_blocks::<8>(buffer, bytes),
        16..BLOCK => append_blocks::<16>(buffer, bytes),
        BLOCK..LONG => append_blocks::<BLOCK>(buffer, bytes),
        _ => buffer.extend_from_slice(bytes),
    }
}

/// Appends bytes of at least one block.
#[inline]
fn append_blocks<const SIZE: usize>(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let end = buffer.len() + bytes.len();
    let (blocks, rest) = bytes.as_chunks::<SIZE>();
    blocks.iter().for_each(|block| buffer.extend_from_slice(block));
    if !rest.is_empty()
        && let Some(last) = bytes.last_chunk::<SIZE>()
    {
        buffer.truncate(end - SIZE);
        buffer.extend_from_slice(last);
    }
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
