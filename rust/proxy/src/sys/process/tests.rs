use super::*;

#[test]
fn the_limit_is_raised_to_what_is_allowed_and_once_is_enough() {
    let first = raise_nofile_limit().unwrap();
    let second = raise_nofile_limit().unwrap();
    assert!(first.before <= first.after);
    assert_eq!(second.before, first.after);
    assert_eq!(max_fds().unwrap(), first.after);
}

#[test]
fn open_descriptors_are_counted() {
    // Other tests of this process open and close their own: enough of ours to stand out.
    let held: Vec<_> = (0..200)
        .map(|_| fs::File::open("/dev/null").unwrap())
        .collect();
    assert!(open_fds().unwrap() >= held.len() as u64);
}

#[test]
fn resident_memory_is_between_a_megabyte_and_its_peak() {
    let now = resident_memory().unwrap();
    assert!(now > 1 << 20);
    assert!(now <= resident_memory_peak().unwrap() + (64 << 20));
}

#[test]
fn memory_lines_are_read_or_refused() {
    for (line, expected) in [
        ("VmRSS:\t    1234 kB", Some(1234)),
        ("VmHWM:\t1 kB\nVmRSS:\t7 kB\n", Some(7)),
        ("VmRSS:\t1234", None),
        ("VmRSS: many kB", None),
        ("", None),
    ] {
        assert_eq!(kibibytes(line, "VmRSS:"), expected, "{line:?}");
    }
}

#[test]
fn only_the_last_descriptors_are_a_reserve() {
    struct Numbered(i32);
    impl std::os::fd::AsRawFd for Numbered {
        fn as_raw_fd(&self) -> i32 {
            self.0
        }
    }
    let limit = i32::try_from(super::max_fds().unwrap().min(1 << 30)).unwrap();
    assert!(super::touches_reserve(&Numbered(limit - 1)));
    assert!(!super::touches_reserve(&Numbered(3)));
    assert!(!super::touches_reserve(&Numbered(limit / 2)));
}
