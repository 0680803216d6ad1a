// Command ceralaccad is the production program: every service of the platform
// is a target of it, run one per process or several together.
//
//	ceralaccad serve --target=invoice --config ceralacca.yaml
//	ceralaccad migrate | config check | config docs | bus apply | healthcheck
//
// It holds no simulator and nothing that is for development.
package main

import (
	"ceralacca.dev/services/conservation"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/invoice"
	"ceralacca.dev/services/notification"
	pecgateway "ceralacca.dev/services/pec-gateway"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/signer"
	"ceralacca.dev/services/tenancy"
)

// targets in the order in which one process wires them.
var targets = []run.Target{
	tenancy.Target,
	invoice.Target,
	signer.Target,
	sdigateway.Target,
	pecgateway.Target,
	conservation.Target,
	notification.Target,
}

func main() { run.Main(targets...) }
