package link

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Dialer returns a dial function (as core.ProxyOptions.Dial) that goes through proxies, one per address, made by open when an address is
// dialled first.  Whoever gave open closes them.  Only TCP can be dialled.
func Dialer(open func(address string) (*Proxy, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	var mu sync.Mutex // protects proxies; held during open, so that an address gets one
	proxies := map[string]*Proxy{}
	proxyOf := func(address string) (*Proxy, error) {
		mu.Lock()
		defer mu.Unlock()
		if p := proxies[address]; p != nil {
			return p, nil
		}
		p, err := open(address)
		if err == nil {
			proxies[address] = p
		}
		return p, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" {
			return nil, fmt.Errorf("link: dial %s %s: only tcp can go through a proxy", network, address)
		}
		p, err := proxyOf(address)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		return d.DialContext(ctx, network, p.Addr())
	}
}
