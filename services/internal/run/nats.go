package run

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startEmbedded runs a NATS server with JetStream inside this process.
//
// SyncAlways: JetStream syncs each message to disk before it acknowledges it,
// because the outbox row, the only other copy of the event, is deleted on that
// acknowledgement. The alternative (the server's default of one sync in two
// minutes, with outbox rows kept as long) costs a second write and an index
// entry per event in PostgreSQL; a sync costs 0.1 to 1 ms and is shared by the
// relay's pipelined publishes. Figures: services/DESIGN.md.
func startEmbedded(cfg EmbeddedNATS, log *slog.Logger) (*server.Server, error) {
	opts, err := embeddedOptions(cfg)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("run: embedded NATS in %s: %w", cfg.Dir, err)
	}
	srv.SetLoggerV2(natsLog{log.With("component", "nats")}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(30 * time.Second) {
		srv.Shutdown()
		return nil, fmt.Errorf("run: embedded NATS in %s did not become ready within 30s: see the log above", cfg.Dir)
	}
	if !srv.JetStreamEnabled() {
		srv.Shutdown()
		return nil, fmt.Errorf("run: embedded NATS cannot use JetStream in %s: is the folder writable, and used by no other process?", cfg.Dir)
	}
	return srv, nil
}

func embeddedOptions(cfg EmbeddedNATS) (*server.Options, error) {
	opts := &server.Options{
		ServerName: "ceralacca",
		JetStream:  true,
		StoreDir:   cfg.Dir,
		DontListen: cfg.Listen == "",
		NoSigs:     true,
		SyncAlways: true,
		MaxPayload: 1 << 20,
	}
	if cfg.Listen == "" {
		return opts, nil
	}
	host, text, err := net.SplitHostPort(cfg.Listen)
	port, numErr := strconv.Atoi(text)
	if err := errors.Join(err, numErr); err != nil {
		return nil, BadField("nats.embedded.listen", "%q is not host:port: %v", cfg.Listen, err)
	}
	opts.Host, opts.Port = host, port
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts, nil
}

// natsLog writes the server's log lines into ours. Its notices are of no use
// to an operator of this platform and go to debug.
type natsLog struct{ log *slog.Logger }

func (l natsLog) line(level slog.Level, format string, v ...any) {
	l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
}

func (l natsLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v...) }
func (l natsLog) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v...) }
func (l natsLog) Fatalf(format string, v ...any)  { l.line(slog.LevelError, format, v...) }
func (l natsLog) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v...) }
func (l natsLog) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v...) }
func (l natsLog) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v...) }

// serversOf is where nats.url leads, without what logs in there: it may hold user and password, or a token, for each of several servers.
// Those belong into no log, no error and no answer of the admin port.
func serversOf(urls string) string {
	servers := strings.Split(urls, ",")
	for i, one := range servers {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(one), "://")
		if !ok {
			scheme, rest = "", scheme
		} else {
			scheme += "://"
		}
		servers[i] = scheme + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(servers, ", ")
}

// connect opens the process's connection to NATS, embedded or not, and waits
// for it as long as start.wait says. Later losses are mended by the client,
// which never gives up.
func (p *process) connect(ctx context.Context) error {
	cfg := p.cfg.NATS
	opts := []nats.Option{
		nats.Name("ceralaccad " + p.id),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), // a publish while away is an error now, not a surprise later
		nats.PingInterval(10 * time.Second),
		nats.DisconnectErrHandler(p.disconnected),
		nats.ReconnectHandler(func(c *nats.Conn) { p.log.Info("nats connection is back", "server", serversOf(c.ConnectedUrl())) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { p.log.Warn("nats", "error", err) }),
	}
	url := serversOf(cfg.URL)
	if cfg.Embedded.Dir != "" {
		srv, err := startEmbedded(cfg.Embedded, p.log)
		if err != nil {
			return err
		}
		p.embedded = srv
		url = "in process"
		opts = append(opts, nats.InProcessServer(srv))
	}
	opts = append(opts, cfg.identity(serviceName(p.targetNames()))...)
	return p.await(ctx, "NATS at "+url, "start a NATS server with JetStream there, or correct nats.url in "+p.file.path,
		func(context.Context) error {
			conn, err := nats.Connect(cfg.URL, opts...)
			var slow net.Error
			if errors.As(err, &slow) && slow.Timeout() || errors.Is(err, nats.ErrTimeout) {
				return fmt.Errorf("no answer within %s: %w", nats.DefaultTimeout, err)
			}
			if err != nil {
				return natsTrouble(err)
			}
			p.nats = conn
			return nil
		})
}

// natsTrouble adds to what is wrong between us and the server which key mends it.
func natsTrouble(err error) error {
	var key string
	var name x509.HostnameError
	switch text := err.Error(); {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		key = "the server knows no user by a DNS name of the certificate in nats.cert_file, or by nats.creds_file"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "after TLS handshake"):
		key = "the server takes only who shows a certificate of its authority: set nats.cert_file and nats.key_file"
	case errors.As(err, &name):
		key = "dial the server in nats.url by a name that its certificate has, or give it one with this name"
	case strings.Contains(text, "x509:"):
		key = "nats.ca_file has to hold the authority that signed the server's certificate"
	case errors.Is(err, nats.ErrNoServers):
		key = "nobody listens there"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, key)
}

// identity is who a process is to the server. Answers come to subjects of its own, so that a server's permissions can
// keep them from others.
func (c *NATSConfig) identity(name string) []nats.Option {
	opts := []nats.Option{nats.CustomInboxPrefix("_INBOX." + name)}
	if c.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredsFile))
	}
	if c.CertFile != "" {
		fill := func(path string) string { return strings.ReplaceAll(path, "{target}", name) }
		opts = append(opts, nats.ClientCert(fill(c.CertFile), fill(c.KeyFile)))
	}
	if c.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.CAFile))
	}
	return opts
}

// disconnected tells a loss from our own closing, which has no error.
func (p *process) disconnected(_ *nats.Conn, err error) {
	if err != nil {
		p.log.Warn("nats connection lost", "error", err)
	}
}
