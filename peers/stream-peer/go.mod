// The stream libraries of Kubernetes 1.37.2, at the versions that it pins.
module stream-peer

go 1.26.0

require (
	github.com/gorilla/websocket v1.5.4-0.20250319132907-e064f32e3674
	github.com/moby/spdystream v0.5.1
)

require golang.org/x/net v0.57.0 // indirect
