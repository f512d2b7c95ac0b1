//! The real programs, started as processes and spoken to over real sockets.

mod company;
mod flood;
mod inventory_svc;
mod line_gateway;
mod mock_api;
mod mock_db;
mod order_svc;
mod peer;
mod pool_client;
mod program;
mod startup;
mod system_calls;
mod target;
