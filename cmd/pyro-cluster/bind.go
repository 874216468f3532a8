package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// bindError makes an error about a socket name the flag that chooses the port.  Other errors stay as they are.
func bindError(err error, flag string) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "listen" {
		return err
	}
	where := "the port"
	if op.Addr != nil {
		where = op.Addr.String()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &failure{exitFailed, fmt.Errorf("%s %s is in use", op.Net, where), fmt.Sprintf("stop its user, or choose another %s", flag)}
	case errors.Is(err, syscall.EACCES):
		return &failure{exitFailed, fmt.Errorf("%s %s is not allowed for this user", op.Net, where), fmt.Sprintf("choose another %s", flag)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &failure{exitFailed, fmt.Errorf("%s %s is no address of this machine", op.Net, where), "check --host, and use --advertise for addresses of others"}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &failure{exitFailed, err, "check --host"}
	}
	return err
}

// dataError makes an error of the disk say what to do about it.  Other errors stay as they are.
func dataError(err error) error {
	code, hint := classify(err)
	if _, ok := errors.AsType[*fs.PathError](err); !ok || code != exitFailed || hint != "" {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return &failure{exitFailed, err, "make room for --data-dir"}
	}
	return &failure{exitFailed, err, "check --data-dir"}
}

// isLoopback tells hosts that only programs of this machine reach (the rule of Pyro5's name server for its broadcast responder).
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isUnspecified tells hosts that mean "all addresses" when listening and nothing to others.
func isUnspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}
