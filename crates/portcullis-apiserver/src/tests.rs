//! Requests through the whole server without a listener.
