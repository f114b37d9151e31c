//! Messages, taken apart and put together again, right or wrong.

/// What a message consists of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Number(u32, u64),
    /// Eight bytes.
    Eight(u32, Vec<u8>),
    Bytes(u32, Vec<u8>),
    Message(u32, Vec<Self>),
    /// Bytes as they are, without a tag.
    Odd(Vec<u8>),
}

/// How many messages there are, this one included.
pub(super) fn messages(items: &[Item]) -> usize {
    let inner = items.iter().map(|item| if let Item::Message(_, inner) = item { messages(inner) } else { 0 });
    1 + inner.sum::<usize>()
}

/// Changes the message of that number.
pub(super) fn change(items: &mut Vec<Item>, number: usize, with: &mut dyn FnMut(&mut Vec<Item>)) {
    if number == 0 {
        return with(items);
    }
    let mut left = number - 1;
    for item in items {
        let Item::Message(_, inner) = item else { continue };
        let here = messages(inner);
        if left < here {
            return change(inner, left, with);
        }
        left -= here;
    }
}

/// A number as it is written.
pub(super) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// The bytes of a message.
pub(super) fn write(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    let tag = |number: &u32, wire: u64| varint((u64::from(*number) << 3) | wire);
    for item in items {
        match item {
            Item::Number(number, value) => out.extend([tag(number, 0), varint(*value)].concat()),
            Item::Eight(number, bytes) => out.extend([tag(number, 1), bytes.clone()].concat()),
            Item::Bytes(number, bytes) => {
                out.extend([tag(number, 2), varint(bytes.len() as u64), bytes.clone()].concat())
            }
            Item::Message(number, inner) => {
                let bytes = write(inner);
                out.extend([tag(number, 2), varint(bytes.len() as u64), bytes].concat());
            }
            Item::Odd(bytes) => out.extend(bytes),
        }
    }
    out
}

/// A message taken apart; bytes that look like a message count as one.
pub(super) fn parse(mut bytes: &[u8]) -> Option<Vec<Item>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..200).contains(number))?;
        out.push(match tag & 7 {
            0 => Item::Number(number, read_varint(&mut bytes)?),
            1 => Item::Eight(number, take(&mut bytes, 8)?.to_vec()),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let inner = take(&mut bytes, length)?;
                match parse(inner).filter(|items| !items.is_empty() && write(items) == inner) {
                    Some(items) => Item::Message(number, items),
                    None => Item::Bytes(number, inner.to_vec()),
                }
            }
            _ => return None,
        });
    }
    Some(out)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut out = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        out |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(out);
        }
    }
    None
}

/// The number of a field.
pub(super) fn number(item: &Item) -> u32 {
    match item {
        Item::Number(number, _) | Item::Eight(number, _) | Item::Bytes(number, _) | Item::Message(number, _) => *number,
        Item::Odd(_) => 1,
    }
}
