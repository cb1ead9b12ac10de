//! Batches that are prepared while those before them are computed.

use std::sync::mpsc;
use std::thread;

use super::stop::check_stop;
use crate::error::{Error, Result};

/// Gives `take` every batch of `batches` with what `prepare` made of it, in order; a batch is prepared while the one
/// before it is taken, and another waits at most.
///
/// # Errors
/// The first of either, in order; `Interrupted` on a signal.
pub(super) fn ahead<B: Copy + Send + Sync, P: Send>(
    batches: &[B],
    prepare: impl Fn(B) -> Result<P> + Sync,
    mut take: impl FnMut(B, P) -> Result<()>,
) -> Result<()> {
    let mut checked = |batch, prepared| {
        check_stop()?;
        take(batch, prepared)
    };
    if let [batch] = batches {
        return checked(*batch, prepare(*batch)?);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let prepare = &prepare;
    thread::scope(|scope| {
        // Gone with this closure, so that whoever waits to send to it does not wait for ever.
        let receiver = receiver;
        scope.spawn(move || {
            for &batch in batches {
                // Whoever takes no more has failed, and says so.
                if sender.send(prepare(batch)).is_err() {
                    return;
                }
            }
        });
        for &batch in batches {
            let prepared =
                receiver.recv().map_err(|_| Error::Failed("the thread that reads pictures is gone".into()))?;
            checked(batch, prepared?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_order_until_one_fails() {
        let mut taken = Vec::new();
        let mut take = |n, made| {
            taken.push((n, made));
            Ok(())
        };
        ahead(&[1, 2, 3], |n| Ok(10 * n), &mut take).unwrap();
        ahead(&[], Ok, &mut take).unwrap();
        assert_eq!(taken, [(1, 10), (2, 20), (3, 30)]);
        let fail_at = |at: usize| move |n: usize| if n == at { Err(Error::Failed(format!("{n}"))) } else { Ok(n) };
        // So many behind the failure that the channel holds only some.
        let many: Vec<usize> = (0..40).collect();
        for (batches, before) in [(&[4][..], 0), (&[1, 4, 5], 1), (&many, 4)] {
            let mut count = 0;
            let counted = |_, _| {
                count += 1;
                Ok(())
            };
            let error = ahead(batches, fail_at(4), counted).unwrap_err();
            assert_eq!((error.to_string().as_str(), count), ("4", before));
            let error = ahead(batches, Ok, |n, _| fail_at(4)(n).map(drop)).unwrap_err();
            assert_eq!(error.to_string(), "4");
        }
    }
}
