use super::*;

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

#[test]
fn exhaustion_waits_longer_each_time_up_to_half_a_second() {
    let mut pause = AcceptPause::new();
    let waits: Vec<_> = (0..8)
        .map(|_| pause.failed(&errno(libc::EMFILE)).unwrap().as_millis())
        .collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 500, 500]);
}

#[test]
fn a_success_starts_over() {
    let mut pause = AcceptPause::new();
    pause.failed(&errno(libc::ENFILE));
    pause.failed(&errno(libc::ENOMEM));
    pause.succeeded();
    assert_eq!(pause.failed(&errno(libc::ENOBUFS)), Some(SHORTEST));
}

#[test]
fn a_client_that_went_away_delays_nobody() {
    let mut pause = AcceptPause::new();
    assert_eq!(pause.failed(&errno(libc::ECONNABORTED)), None);
    assert_eq!(pause.failed(&errno(libc::EMFILE)), Some(SHORTEST));
}
