use tokio::io::AsyncWriteExt;

use super::*;
use crate::relay::tests::pair;
use crate::tunnel::tests::play;

/// Pipes of this thread: empty ones, and those on loan.
pub(crate) fn counts() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.idle.len(), pool.lent))
}

/// Borrows all that are left.
pub(crate) fn exhaust() -> Vec<Lent> {
    std::iter::from_fn(lend).collect()
}

/// What makes this pipe the one that it is.
fn inode(pipe: &Pipe) -> String {
    format!("{pipe:?}")
}

#[test]
fn there_are_never_more_than_the_bound_and_few_are_kept() {
    let all = exhaust();
    assert_eq!(all.len(), MOST);
    assert!(lend().is_none());
    assert_eq!(counts(), (0, MOST));
    drop(all);
    assert_eq!(counts(), (KEPT, 0));
    // And again: nothing was lost.
    assert_eq!(exhaust().len(), MOST);
}

#[test]
fn an_empty_pipe_is_lent_again() {
    let first = lend().unwrap();
    let name = inode(&first);
    drop(first);
    assert_eq!(inode(&lend().unwrap()), name);
    assert_eq!(counts(), (1, 0));
}

#[test]
fn a_system_that_gives_no_pipe_or_a_small_one_is_not_asked_again_at_once() {
    let start = Instant::now();
    for refusal in [|| None, || Pipe::open(LEAST / 2).ok()] {
        let mut pool = Pool::new();
        assert!(pool.take(|| start, refusal).is_none());
        let again = || -> Option<Pipe> { panic!("it was asked again") };
        assert!(pool.take(|| start + REFUSED / 2, again).is_none());
        let open = || Pipe::open(CAPACITY).ok();
        assert!(pool.take(|| start + REFUSED, open).is_some());
        assert_eq!(pool.lent, 1);
    }
}

#[test]
fn a_pipe_with_bytes_in_it_is_never_lent_again() {
    play(async {
        let (mut one, other) = pair().await;
        one.write_all(b"secret").await.unwrap();
        other.readable().await.unwrap();
        let mut pipe = lend().unwrap();
        assert_eq!(pipe.fill(&other).unwrap(), 6);
        drop(pipe);
        assert_eq!(counts(), (0, 0));
        assert_eq!(lend().unwrap().held(), 0);
    });
}
