use std::future::poll_fn;

use super::*;

async fn until(alarm: &mut Alarm, due: Instant) {
    poll_fn(|context| alarm.poll_due(context, due)).await;
}

#[actix_web::test]
async fn nobody_is_woken_early_and_all_are_woken_soon() {
    let pulse = Pulse::start(CancellationToken::new());
    let begun = Instant::now();
    let waits = [90, 10, 50, 50, 0, 130].map(|millis| {
        let mut alarm = Alarm::new(Rc::clone(&pulse));
        async move {
            let due = begun + Duration::from_millis(millis);
            until(&mut alarm, due).await;
            Instant::now() - due
        }
    });
    // Each poll of a joined future has the same waker; tasks have their own.
    let tasks = waits.map(actix_web::rt::spawn);
    for task in tasks {
        let late = task.await.unwrap();
        assert!(late < Duration::from_secs(5), "{late:?} late");
    }
    assert!(pulse.waiting.borrow().is_empty());
}

#[actix_web::test]
async fn an_alarm_that_is_dropped_holds_no_task() {
    let pulse = Pulse::start(CancellationToken::new());
    let mut alarm = Alarm::new(Rc::clone(&pulse));
    let due = Instant::now() + Duration::from_secs(3_600);
    assert!(poll_fn(|context| Poll::Ready(alarm.poll_due(context, due))).await.is_pending());
    assert_eq!(pulse.waiting.borrow().len(), 1);
    drop(alarm);
    assert!(pulse.waiting.borrow().is_empty());
}

#[actix_web::test]
async fn an_alarm_may_be_moved_both_ways() {
    let pulse = Pulse::start(CancellationToken::new());
    let mut alarm = Alarm::new(pulse);
    let begun = Instant::now();
    let far = begun + Duration::from_secs(3_600);
    assert!(poll_fn(|context| Poll::Ready(alarm.poll_due(context, far))).await.is_pending());
    until(&mut alarm, begun + Duration::from_millis(30)).await;
    assert!(begun.elapsed() >= Duration::from_millis(30));
    // The earlier wake-up that was asked for first comes, and is not taken for the later one.
    let (near, later) =
        (Instant::now() + Duration::from_millis(20), Instant::now() + Duration::from_millis(80));
    assert!(poll_fn(|context| Poll::Ready(alarm.poll_due(context, near))).await.is_pending());
    until(&mut alarm, later).await;
    assert!(Instant::now() >= later);
}

#[actix_web::test]
async fn the_end_wakes_all_who_wait() {
    let shutdown = CancellationToken::new();
    let pulse = Pulse::start(shutdown.clone());
    let mut alarm = Alarm::new(Rc::clone(&pulse));
    let far = Instant::now() + Duration::from_secs(3_600);
    let waiting = actix_web::rt::spawn(async move {
        poll_fn(|context| match alarm.pulse().is_over() {
            true => Poll::Ready(()),
            false => alarm.poll_due(context, far),
        })
        .await;
    });
    actix_web::rt::task::yield_now().await;
    assert!(!pulse.is_over());
    shutdown.cancel();
    waiting.await.unwrap();
}
