//! Places of which each subject may have so many at a time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Limit, Subject};

/// How many places each subject has taken.
#[derive(Debug)]
pub(crate) struct Places {
    limit: Limit,
    /// Most places of one subject; none is no limit, and nobody is counted.
    most: Option<usize>,
    taken: Mutex<HashMap<Subject, usize>>,
}

impl Places {
    pub(crate) fn new(limit: Limit, most: Option<usize>) -> Arc<Self> {
        Arc::new(Places { limit, most, taken: Mutex::default() })
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.most.is_some()
    }

    /// A place for a subject for as long as the answer lives, or the limit that it has reached.
    pub(crate) fn take(self: &Arc<Self>, subject: &Subject) -> Result<Place, Limit> {
        let Some(most) = self.most else { return Ok(Place(None)) };
        let mut taken = self.taken.lock();
        let count = taken.entry(subject.clone()).or_default();
        if *count >= most {
            return Err(self.limit);
        }
        *count += 1;
        Ok(Place(Some((Arc::clone(self), subject.clone()))))
    }
}

/// A place that was taken.
#[derive(Debug)]
pub(crate) struct Place(Option<(Arc<Places>, Subject)>);

impl Place {
    pub(crate) fn is_of(&self, subject: &Subject) -> bool {
        self.0.as_ref().is_some_and(|(_, owner)| owner == subject)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, subject)) = self.0.take() else { return };
        let mut taken = places.taken.lock();
        if let Some(count) = taken.get_mut(&subject) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Subject {
        Subject::Named(name.into())
    }

    #[test]
    fn a_subject_has_its_number_and_gets_a_place_back() {
        let places = Places::new(Limit::StreamsPerSubject, Some(2));
        let first = places.take(&named("a")).unwrap();
        let second = places.take(&named("a")).unwrap();
        assert_eq!(places.take(&named("a")).unwrap_err(), Limit::StreamsPerSubject);
        assert!(places.take(&named("b")).is_ok());
        drop(first);
        let third = places.take(&named("a")).unwrap();
        assert!(third.is_of(&named("a")) && !third.is_of(&named("b")));
        drop((second, third));
        assert!(places.taken.lock().is_empty(), "who has left is forgotten");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let places = Places::new(Limit::StreamsPerSubject, None);
        let _all: Vec<Place> = (0..9).map(|_| places.take(&named("a")).unwrap()).collect();
        assert!(places.taken.lock().is_empty());
    }
}
