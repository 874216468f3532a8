package main

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pyro-cluster/pyro-cluster/loadtest/bench/benchpb"
	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

// grpcGo is grpc-go without TLS, everything else as it comes.
func grpcGo() peer.Peer {
	return peer.Peer{
		Mux: true,
		Serve: func(ctx context.Context, ln net.Listener, s *peer.Service) error {
			server := grpc.NewServer()
			benchpb.RegisterBenchServer(server, &grpcService{service: s})
			defer context.AfterFunc(ctx, server.Stop)()
			return server.Serve(ln)
		},
		Dial: func(_ context.Context, address string) (peer.Conn, error) {
			conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			return &grpcConn{conn: conn, client: benchpb.NewBenchClient(conn)}, nil
		},
	}
}

type grpcService struct {
	benchpb.UnimplementedBenchServer
	service *peer.Service
}

func (s *grpcService) Add(_ context.Context, r *benchpb.AddRequest) (*benchpb.Number, error) {
	return &benchpb.Number{Value: s.service.Add(r.A, r.B)}, nil
}

func (s *grpcService) EchoString(_ context.Context, r *benchpb.Text) (*benchpb.Text, error) {
	return r, nil
}

func (s *grpcService) EchoBytes(_ context.Context, r *benchpb.Binary) (*benchpb.Binary, error) {
	return r, nil
}

func (s *grpcService) Note(stream grpc.ClientStreamingServer[benchpb.Number, benchpb.Empty]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return stream.SendAndClose(&benchpb.Empty{})
		} else if err != nil {
			return err
		}
		s.service.Note()
	}
}

func (s *grpcService) Received(context.Context, *benchpb.Empty) (*benchpb.Number, error) {
	return &benchpb.Number{Value: s.service.Received()}, nil
}

type grpcConn struct {
	conn   *grpc.ClientConn
	client benchpb.BenchClient
	stream grpc.ClientStreamingClient[benchpb.Number, benchpb.Empty] // opened by the first Oneway; used by one goroutine
}

func (c *grpcConn) Add(ctx context.Context, a, b int64) (int64, error) {
	r, err := c.client.Add(ctx, &benchpb.AddRequest{A: a, B: b})
	return r.GetValue(), err
}

func (c *grpcConn) EchoString(ctx context.Context, s string) (string, error) {
	r, err := c.client.EchoString(ctx, &benchpb.Text{Value: s})
	return r.GetValue(), err
}

func (c *grpcConn) EchoBytes(ctx context.Context, p []byte) ([]byte, error) {
	r, err := c.client.EchoBytes(ctx, &benchpb.Binary{Value: p})
	return r.GetValue(), err
}

func (c *grpcConn) Oneway(ctx context.Context, v int64) (err error) {
	if c.stream == nil {
		if c.stream, err = c.client.Note(ctx); err != nil {
			return err
		}
	}
	return c.stream.Send(&benchpb.Number{Value: v})
}

func (c *grpcConn) Flush(context.Context) error { return nil } // grpc-go writes what is in its buffers by itself

func (c *grpcConn) Received(ctx context.Context) (int64, error) {
	r, err := c.client.Received(ctx, &benchpb.Empty{})
	return r.GetValue(), err
}

func (c *grpcConn) Close() error { return c.conn.Close() }
