package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"ceralacca.dev/services/conservation"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/invoice"
	"ceralacca.dev/services/notification"
	pecgateway "ceralacca.dev/services/pec-gateway"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/signer"
	"ceralacca.dev/services/tenancy"
)

// targets are all services, as ceralaccad hosts them.
var targets = []run.Target{
	tenancy.Target, invoice.Target, signer.Target, sdigateway.Target, pecgateway.Target, conservation.Target, notification.Target,
}

func targetNames() []string {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	return names
}

// platformOptions say how to run the targets in this process.
type platformOptions struct {
	level string
	log   io.Writer
}

// platform is the services, running in this process.
type platform struct {
	cancel context.CancelFunc
	ended  chan error
}

// startPlatform runs all targets and returns once they are ready.
func (w *world) startPlatform(ctx context.Context, o platformOptions) (*platform, error) {
	err := w.choosePorts("all")
	if err != nil {
		return nil, err
	}
	file := w.path("ceralaccad.yaml")
	err = os.WriteFile(file, []byte(w.config("all", o.level)), 0o600)
	if err != nil {
		return nil, err
	}
	loaded, err := run.LoadFile(file, targetNames(), nil)
	if err != nil {
		return nil, err
	}
	step := devenv.Begin(os.Stderr, "starting the services")
	// The platform outlives the signal until stop: what it holds is finished first.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &platform{cancel: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		p.ended <- run.Serve(inner, run.ServeOptions{
			Config: loaded, Targets: targets, Version: "dev", LogOutput: o.log,
			Ready: func(run.Running) { close(ready) },
		})
	}()
	select {
	case <-ready:
		step.End(nil)
		return p, nil
	case err = <-p.ended:
		if err == nil {
			err = fmt.Errorf("the services ended at once")
		}
	case <-ctx.Done():
		cancel()
		err = errors.Join(ctx.Err(), <-p.ended)
	}
	step.End(err)
	cancel()
	return nil, err
}

// stop drains the services and waits for them.
func (p *platform) stop() {
	p.cancel()
	select {
	case err := <-p.ended:
		if err != nil {
			fmt.Fprintln(os.Stderr, "the services ended with:", err)
		}
	case <-time.After(30 * time.Second):
		fmt.Fprintln(os.Stderr, "the services did not end within 30 s")
	}
}

// choosePorts finds free loopback ports for the named processes.
func (w *world) choosePorts(names ...string) error {
	for _, name := range names {
		for _, kind := range []string{"rpc", "admin"} {
			if err := w.choosePort(portKey(kind, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) choosePort(key string) error {
	address, _, err := devenv.FreeAddress()
	w.ports[key] = address
	return err
}

// portKey names the port of a process: rpc and admin for the one that hosts all, rpc.invoice and so on.
func portKey(kind, process string) string {
	if process == "all" {
		return kind
	}
	return kind + "." + process
}

// binDir is where the Makefile puts the programs.
func binDir() (string, error) {
	root, err := devenv.Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".cache", "bin"), nil
}
