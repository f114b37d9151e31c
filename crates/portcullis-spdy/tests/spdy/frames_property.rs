//! Properties of the frame codec: what is written is read, however the bytes are cut, and nothing panics.

use bytes::{Bytes, BytesMut};
use portcullis_spdy::frame::{
    Decoded, Decoder, Encoder, Frame, FrameError, GoAwayStatus, ResetStatus, Setting, StreamId,
};
use portcullis_spdy::{Headers, Limits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn stream() -> impl Strategy<Value = StreamId> {
    (1..=StreamId::MAX).prop_map(|number| StreamId::new(number).expect("in range"))
}

fn block() -> impl Strategy<Value = Headers> {
    let value = prop_oneof!["[ -~]{0,20}".prop_map(String::into_bytes), vec(1..=255_u8, 0..20)];
    vec(("[a-z0-9-]{1,12}", vec(value, 1..4)), 0..6).prop_map(|names| {
        let mut headers = Headers::new();
        for (name, values) in names {
            for value in values {
                headers.append(&name, value).expect("a good header");
            }
        }
        headers
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let setting =
        (any::<u8>(), 0..1_u32 << 24, any::<u32>()).prop_map(|(flags, id, value)| Setting { flags, id, value });
    prop_oneof![
        (stream(), prop::option::of(stream()), 0..8_u8, any::<bool>(), any::<bool>(), block()).prop_map(
            |(id, associated, priority, fin, unidirectional, headers)| Frame::SynStream {
                id,
                associated,
                priority,
                fin,
                unidirectional,
                headers
            }
        ),
        (stream(), any::<bool>(), block()).prop_map(|(id, fin, headers)| Frame::SynReply { id, fin, headers }),
        (stream(), any::<bool>(), block()).prop_map(|(id, fin, headers)| Frame::Headers { id, fin, headers }),
        (stream(), 1..=u32::MAX).prop_map(|(id, status)| Frame::RstStream { id, status: ResetStatus(status) }),
        vec(setting, 0..8).prop_map(|entries| Frame::Settings { entries }),
        (1..=u32::MAX).prop_map(|id| Frame::Ping { id }),
        (prop::option::of(stream()), any::<u32>())
            .prop_map(|(last, status)| Frame::GoAway { last, status: GoAwayStatus(status) }),
        (prop::option::of(stream()), 0..=StreamId::MAX).prop_map(|(id, delta)| Frame::WindowUpdate { id, delta }),
        (stream(), any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(|(id, fin, payload)| Frame::Data {
            id,
            fin,
            payload: payload.into()
        }),
    ]
}

/// Feeds `bytes` in pieces and joins the pieces of each data frame, so that how they were cut cannot be seen.
fn decode(bytes: &[u8], cuts: &[Index]) -> (Vec<Decoded>, Option<FrameError>) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let (mut decoder, mut input, mut found) =
        (Decoder::new(&Limits::default()), BytesMut::new(), Vec::<Decoded>::new());
    for piece in places.windows(2) {
        input.extend_from_slice(&bytes[piece[0]..piece[1]]);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
                Ok(Some(decoded)) => found.push(decoded),
            }
        }
    }
    (found, None)
}

/// Joins neighbouring pieces of data on one stream.
fn joined(found: Vec<Decoded>) -> Vec<Decoded> {
    let mut all = Vec::<Decoded>::new();
    for decoded in found {
        if let (
            Some(Decoded::Frame(Frame::Data { id, fin, payload })),
            Decoded::Frame(Frame::Data { id: next, fin: ends, payload: more }),
        ) = (all.last_mut(), &decoded)
            && id == next
            && !*fin
        {
            *payload = Bytes::from([payload.as_ref(), more.as_ref()].concat());
            *fin = *ends;
        } else {
            all.push(decoded);
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(frames in vec(frame(), 0..12), cuts in vec(any::<Index>(), 0..12)) {
        let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut bytes).expect("a good frame");
        }
        let expected = joined(frames.into_iter().map(Decoded::Frame).collect());
        let (found, error) = decode(&bytes, &cuts);
        prop_assert_eq!(error, None);
        prop_assert_eq!(joined(found), expected);
    }

    #[test]
    fn spoiled_bytes_are_read_alike_however_they_are_cut(
        frames in vec(frame(), 1..6),
        spoil in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut bytes).expect("a good frame");
        }
        for (place, value) in spoil {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let (whole, whole_error) = decode(&bytes, &[]);
        let (pieces, pieces_error) = decode(&bytes, &cuts);
        prop_assert_eq!(joined(whole), joined(pieces));
        prop_assert_eq!(whole_error, pieces_error);
    }

    #[test]
    fn bytes_of_any_kind_are_answered(bytes in vec(prop_oneof![Just(0_u8), Just(0x80), Just(3), any::<u8>()], 0..200)) {
        let _ = decode(&bytes, &[]);
    }
}
