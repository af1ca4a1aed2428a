// CoreDNS with only the plugins a one-node test cluster needs. The stock main
// pulls in every cloud provider's SDK; this one builds in a fraction of the
// time and stays small in memory.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// The order of directives is the order in which plugins see a query; a plugin
// that is not named here is refused in the Corefile. Unlike in the stock order
// hosts comes last: it answers for everything outside the cluster's domain,
// with "no such name" for what it does not list.
func init() {
	dnsserver.Directives = []string{
		"reload",
		"bind",
		"health",
		"ready",
		"errors",
		"cache",
		"kubernetes",
		"hosts",
	}
}

func main() {
	coremain.Run()
}
