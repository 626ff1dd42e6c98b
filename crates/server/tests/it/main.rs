mod config;
mod roles;
