//! Acts of administration: policies and purges. Each is an event on a topic of the broker's own.

use std::sync::Arc;

use auth::{Revocations, Target};
use bytestring::ByteString;
use event_log::limits::REMOVALS_PER_STEP_MAX;
use event_log::{
    AppendError, Batch, Data, Keep, Key, NewEvent, Pattern, ReadError, Removal, Removed, Timestamp, Topic,
    TopicStats,
};
use serde::Serialize;

use crate::own::{event_type, own_topic};
use crate::policies::Policies;
use crate::policy::{InvalidPolicy, Policy};
use crate::{Broker, Inner, policy_topic, revocation_topic};

const PURGES: &str = "$broker.purges";

/// What is told of a purge.
#[derive(Serialize)]
struct Purge<'a> {
    topic: &'a str,
    through: String,
    events: u64,
    bytes: u64,
}

impl Purge<'_> {
    fn event(&self) -> NewEvent {
        let data = serde_json::to_string(self).expect("texts and numbers have a JSON");
        NewEvent {
            event_type: Some(event_type("purge")),
            key: Some(Key::parse(self.topic).expect("a topic is as short as a key and has no NUL")),
            ..NewEvent::new(own_topic(PURGES), Data::from(ByteString::from(data)))
        }
    }
}

/// Why an act of administration was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// It cannot be done, however often it is tried.
    #[error("{0}")]
    Refused(InvalidPolicy),
    /// Its event was not appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What holds cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Broker {
    /// The policies that hold.
    pub async fn policies(&self) -> Result<Arc<Policies>, ReadError> {
        self.inner.policies.current().await
    }

    /// Gives a pattern a policy, in place of the one that it has. Resolves once it is durable and holds.
    pub async fn set_policy(&self, pattern: &Pattern, policy: &Policy) -> Result<(), ActError> {
        refuse_reserved(pattern)?;
        self.change_policy(pattern, Some(policy)).await
    }

    /// Takes a pattern's policy away, and returns it; `None` if it has none.
    pub async fn remove_policy(&self, pattern: &Pattern) -> Result<Option<Policy>, ActError> {
        let Some(policy) = self.policies().await?.get(pattern).cloned() else { return Ok(None) };
        self.change_policy(pattern, None).await?;
        Ok(Some(policy))
    }

    async fn change_policy(&self, pattern: &Pattern, policy: Option<&Policy>) -> Result<(), ActError> {
        let Inner { policies, retention, .. } = &*self.inner;
        policies.publish(policy_topic::event(policies.topic().clone(), pattern, policy)).await?;
        policies.current().await?;
        retention.wake();
        Ok(())
    }

    /// The revocations that hold.
    pub fn revocations(&self) -> Arc<Revocations> {
        self.inner.revocations.known()
    }

    /// Takes tokens back. Resolves once that is durable and holds.
    pub async fn revoke(
        &self,
        target: &Target,
        until: Option<Timestamp>,
    ) -> Result<Arc<Revocations>, ActError> {
        let revocations = &self.inner.revocations;
        revocations.publish(revocation_topic::event(revocations.topic().clone(), target, until)).await?;
        Ok(revocations.current().await?)
    }

    /// What would be removed now if a pattern had this policy.
    pub async fn try_policy(&self, pattern: &Pattern, policy: &Policy) -> Result<Removed, ActError> {
        refuse_reserved(pattern)?;
        let policies = self.policies().await?.changed([(pattern.clone(), Some(policy.clone()))]);
        let governed =
            |topic: &Topic| policies.governing(topic).is_some_and(|stated| stated.pattern == pattern);
        Ok(self.removable(&policies, governed).await?)
    }

    /// What would be removed now of the topics that a pattern's policy governs, if it had none any more; `None` if it has
    /// none.
    pub async fn try_without_policy(&self, pattern: &Pattern) -> Result<Option<Removed>, ReadError> {
        let present = self.policies().await?;
        if present.get(pattern).is_none() {
            return Ok(None);
        }
        let governed =
            |topic: &Topic| present.governing(topic).is_some_and(|stated| stated.pattern == pattern);
        self.removable(&present.changed([(pattern.clone(), None)]), governed).await.map(Some)
    }

    /// What these policies would remove now of some topics.
    async fn removable(
        &self,
        policies: &Policies,
        of: impl Fn(&Topic) -> bool,
    ) -> Result<Removed, ReadError> {
        let Inner { log, clock, options, .. } = &*self.inner;
        let now = clock.now();
        let tombstones_before = now.saturating_sub(options.tombstone_retention);
        let (mut some, mut removed) = (Vec::new(), Removed::default());
        for stats in log.topics(None).into_iter().filter(|stats| of(&stats.topic)) {
            let Some(stated) = policies.governing(&stats.topic) else { continue };
            let topic = stats.topic;
            // Those of a topic are asked for together: what one of them removes the other cannot.
            some.push(stated.policy.trim(topic.clone(), now));
            if stated.policy.is_compacting() {
                some.push(Removal::Superseded { topic, tombstones_before });
            }
            if some.len() >= REMOVALS_PER_STEP_MAX {
                removed = removed.and(log.removable(std::mem::take(&mut some)).await?);
            }
        }
        Ok(removed.and(log.removable(some).await?))
    }

    /// Removes every event that a topic has when this is carried out, for every reader at once; `None` if it never had
    /// one. It resolves once none of them can come back.
    pub async fn purge(&self, topic: &Topic) -> Result<Option<Removed>, ReadError> {
        let Inner { log, remover, epochs, .. } = &*self.inner;
        let Some(TopicStats { last, .. }) = log.topic(topic) else { return Ok(None) };
        let removal =
            Removal::Trim { topic: topic.clone(), keep: Keep { after: Some(last), ..Keep::default() } };
        let mut removed = Removed::default();
        loop {
            removed = removed.and(remover.step(vec![removal.clone()]).await?);
            if !removed.more {
                break;
            }
        }
        let told = Purge {
            topic: topic.as_str(),
            through: epochs.id(last).to_string(),
            events: removed.events,
            bytes: removed.bytes,
        };
        if let Err(error) = log.append(Batch::new(vec![told.event()])).await {
            // The events are gone, and room on a full disk is what purges are for.
            tracing::warn!(%error, %topic, "a purge was carried out, but its event was not appended");
        }
        Ok(Some(removed))
    }

    /// What a purge would remove now; `None` if the topic never had an event.
    pub fn try_purge(&self, topic: &Topic) -> Option<Removed> {
        let stats = self.inner.log.topic(topic)?;
        Some(Removed { events: stats.events, bytes: stats.bytes, through: stats.last, more: false })
    }
}

/// The broker's own topics keep everything: their events are its state.
fn refuse_reserved(pattern: &Pattern) -> Result<(), ActError> {
    match pattern.as_str().starts_with('$') {
        false => Ok(()),
        true => Err(ActError::Refused(InvalidPolicy::new(format!(
            "pattern {:?} starts with $: the broker's own topics keep everything, so no policy can be set for them",
            pattern.as_str()
        )))),
    }
}
