//! Answers queries for lines of the log, on `exec.<peer>.audit`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::time;
use crate::answer::{UNPROVEN, cannot};
use crate::auth;
use crate::context::Context;
use crate::policy::may_see_all;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::audit::{AuditPage, AuditQuery, PAGE_TYPE};
use peerbus_protocol::{decode, subjects};

/// Queries that may wait.
pub(crate) const WAITING: usize = 64;

/// Upper bound of a page's bytes that are not lines.
const FRAME: usize = 1_024;

/// Answers while it is polled.
pub(crate) async fn answer(context: Arc<Context>, mut questions: mpsc::Receiver<Incoming>) {
    while let Some(question) = questions.recv().await {
        let Some(reply) = question.reply.clone().filter(|reply| subjects::is_inbox(reply)) else { continue };
        match auth::of(&context, &question) {
            Ok((principal, _)) if may_see_all(&principal) => {}
            Ok((principal, _)) => {
                let sentence = format!("only operators may read the audit log, and {principal} is none");
                cannot(&context, &reply, "not_yours", 403, &sentence).await;
                continue;
            }
            Err(why) => {
                cannot(&context, &reply, UNPROVEN.0, UNPROVEN.1, &why).await;
                continue;
            }
        }
        let query = AuditQuery::decode(&question.payload).map_err(|bad| bad.0).and_then(|query| {
            query.since.as_deref().map(time).transpose()?;
            Ok(query)
        });
        match query {
            Ok(query) => one(&context, &reply, query).await,
            Err(why) => cannot(&context, &reply, "bad_request", 400, &decode::readable(&why)).await,
        }
    }
}

async fn one(context: &Context, reply: &str, query: AuditQuery) {
    let room = context.bus.max_payload().saturating_sub(FRAME);
    let (read, head) = match context.audit.page(query, room).await {
        Ok(page) => page,
        Err(error) => {
            tracing::error!(%error, "reading the audit log");
            let sentence = format!("the audit log cannot be read: {error}");
            return cannot(context, reply, "audit", 500, &sentence).await;
        }
    };
    let page = AuditPage {
        kind: PAGE_TYPE.to_owned(),
        peer_id: context.peer().clone(),
        instance: context.instance,
        lines: read.lines,
        next: read.next,
        head,
        skipped: read.skipped,
    };
    // If the answer is lost, the client retries.
    let sent = context.bus.publish(Outgoing::to(reply).payload(decode::to_json(&page)).sealed()).await;
    if let Err(error @ peerbus_bus::BusError::TooLarge { .. }) = sent {
        cannot(context, reply, "audit", 500, &format!("a line does not fit into a message: {error}")).await;
    }
}
