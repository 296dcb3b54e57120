use super::*;

#[test]
fn the_last_thousand_endings_are_remembered() {
    let mut closed = Closed::default();
    for id in 0..2000 {
        closed.remember(id, Ending::Ended);
    }
    assert_eq!(closed.recall(975), None);
    assert_eq!(closed.recall(976), Some(&mut Ending::Ended));
    assert_eq!(closed.recall(1999), Some(&mut Ending::Ended));
}

#[test]
fn a_stream_is_closed_when_both_directions_have_ended() {
    let mut stream = Stream::accepted(ReceiveWindow::new(1, 1), SendWindow::new(1));
    assert!(!stream.is_closed());
    stream.receiving = Half::Ended;
    assert!(!stream.is_closed());
    stream.sending = Half::Ended;
    assert!(stream.is_closed());
}

#[test]
fn a_promised_length_is_kept_exactly() {
    let mut stream = Stream::accepted(ReceiveWindow::new(1, 1), SendWindow::new(1));
    assert!(stream.count_content(u32::MAX) && stream.is_content_complete());
    stream.content_left = Some(5);
    assert!(stream.count_content(3) && !stream.is_content_complete());
    assert!(!stream.count_content(3));
    assert!(stream.count_content(2) && stream.is_content_complete());
}
