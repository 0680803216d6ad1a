// Command vaultdev is a small Vault server for development and tests: a real
// Vault core with the transit, totp and kv-v2 engines, the approle and kubernetes logins
// and the file audit device, on a loopback listener, initialised and unsealed by itself.
//
// It refuses to be a production Vault: it keeps its own unseal key, speaks plain
// HTTP and listens nowhere but on loopback.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vaultdev:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends or the program that started it goes away, which shows
// as the end of stdin when stdin is a pipe.
func run(ctx context.Context, args []string, stdin *os.File, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("vaultdev", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8200", "loopback `address` to listen on; port 0 takes a free one")
	flags.StringVar(&o.dir, "dir", "", "`folder` that keeps storage and unseal key over restarts (empty: all in memory)")
	flags.StringVar(&o.rootToken, "root-token", "", "`value` of the root token (empty: a random one)")
	flags.StringVar(&o.audit, "audit", "", "`file` of the audit device (empty: none)")
	flags.StringVar(&o.logLevel, "log", "error", "log `level`: trace, debug, info, warn, error")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: every option is a flag, see -help", flags.Arg(0))
	}
	err = loopbackOnly(o.addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = endWith(stdin, cancel)
	if err != nil {
		return err
	}
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	err = json.NewEncoder(stdout).Encode(ready{Addr: s.addr, Token: s.token, PID: os.Getpid()})
	if err != nil {
		return errors.Join(err, s.close())
	}
	select {
	case <-ctx.Done():
		return s.close()
	case err = <-s.failed:
		return errors.Join(err, s.close())
	}
}

// ready is the one line on stdout, printed once the server answers.
type ready struct {
	Addr  string `json:"addr"` // http://127.0.0.1:port
	Token string `json:"token"`
	PID   int    `json:"pid"`
}

func loopbackOnly(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("-addr %q: %w: give it as 127.0.0.1:8200", addr, err)
	}
	ip := net.ParseIP(host)
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("-addr %q is not a loopback address: this server keeps its own unseal key and must not be reachable from outside", addr)
	}
	return nil
}

// endWith calls cancel when stdin ends, if stdin is a pipe that a parent holds.
func endWith(stdin *os.File, cancel func()) error {
	info, err := stdin.Stat()
	if err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return nil
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	return nil
}
