// Package benchpb is generated from bench.proto, the service that grpc-go is measured with.  Making it anew needs protoc (Debian:
// protobuf-compiler).
package benchpb

//go:generate sh generate.sh
