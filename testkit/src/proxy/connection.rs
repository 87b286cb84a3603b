//! One connection through the proxy.

use std::sync::atomic::Ordering::Relaxed;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pump::{Direction, End, Pump};
use super::{Faults, State};

/// What a connection is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Have these faults.
    Behave(Faults),
    /// Be reset.
    Reset,
}

/// Passes on what comes, both ways, until both sides have ended or the connection is reset.
pub(super) async fn serve(mut client: TcpStream, state: &State, order: watch::Receiver<Order>) {
    let Ok(mut server) = TcpStream::connect(state.target).await else {
        // As far as a client can tell, whoever is behind the proxy refuses it.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let (up, down): (Direction, Direction) = (|faults| faults.up, |faults| faults.down);
        let (tally, dropped) = (&state.tally, &state.tally.dropped);
        let forth = Pump { forth: up, back: down, arrived: &tally.up, dropped, order: order.clone() };
        let back = Pump { forth: down, back: up, arrived: &tally.down, dropped, order: order.clone() };
        tokio::select! {
            end = both(forth.run(from_client, to_server), back.run(from_server, to_client)) => end,
            () = told_to_reset(order) => End::Reset,
        }
    };
    if end == End::Reset {
        state.tally.reset.fetch_add(1, Relaxed);
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// The end of the connection: of both directions, or a reset in one.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> End {
    tokio::pin!(up, down);
    let (first, is_up) = tokio::select! {
        end = &mut up => (end, true),
        end = &mut down => (end, false),
    };
    match first {
        End::Reset => End::Reset,
        End::Finished if is_up => down.await,
        End::Finished => up.await,
    }
}

async fn told_to_reset(mut order: watch::Receiver<Order>) {
    // The proxy itself resets its connections when it goes.
    let _ = order.wait_for(|order| matches!(order, Order::Reset)).await;
}
