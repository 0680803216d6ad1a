package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// ftpChannel is the server side of SDIFTP: SdI's client connects, takes supports and brings files.
// spec: SDIFTP-4.3 §2 (SdI is the client), §5
type ftpChannel struct {
	s        *Service
	keys     *ftpKeys
	listener net.Listener
	towards  string // directory from which SdI takes
	from     string // directory into which SdI puts
	slots    chan struct{}
}

const (
	ftpConnections = 16 // at a time; SdI opens one or two
	ftpHandshake   = 20 * time.Second
	ftpIdle        = 5 * time.Minute
	// supportTenant is whose the bytes of supports are: the transmitter's, which is no tenant. No tenant can have
	// this name, since theirs are in lower case.
	supportTenant = "SDIFTP"
)

// startFTP opens the address, so that one in use stops the start, and promises the work of the channel.
func (s *Service) startFTP(h *run.Host) error {
	keys, err := s.cfg.FTP.load()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.cfg.FTP.Listen)
	if err != nil {
		return fmt.Errorf("sdi-gateway.ftp.listen: %w", err)
	}
	s.ftp = &ftpChannel{s: s, keys: keys, listener: listener, slots: make(chan struct{}, ftpConnections)}
	s.ftp.towards, s.ftp.from = directories(s.cfg.FTP.Test)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: 10 * time.Minute, MaxAttempts: 50}, s.buildSupport)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: 10 * time.Minute, MaxAttempts: 20}, s.settleSupport)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: 10 * time.Minute, MaxAttempts: 20}, s.readSupport)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: 10 * time.Minute, MaxAttempts: 50}, s.handDocuments)
	h.Go("sftp server", s.ftp.serve)
	h.Go("gather supports", s.gatherSupports)
	return nil
}

func (f *ftpChannel) sshConfig() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{
		MaxAuthTries: 3, ServerVersion: "SSH-2.0-Ceralacca",
		PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			comment, ok := f.keys.clients[string(key.Marshal())]
			if !ok || conn.User() != f.s.cfg.FTP.User {
				return nil, fmt.Errorf("user %q with key %s may not log in", conn.User(), ssh.FingerprintSHA256(key))
			}
			return &ssh.Permissions{Extensions: map[string]string{"key": ssh.FingerprintSHA256(key), "comment": comment}}, nil
		},
	}
	cfg.AddHostKey(f.keys.host)
	return cfg
}

func (f *ftpChannel) serve(ctx context.Context) error {
	f.s.log.InfoContext(ctx, "waiting for SdI's SFTP client", "address", f.listener.Addr().String(), "directories", f.towards+" "+f.from)
	stop := context.AfterFunc(ctx, func() { _ = f.listener.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	cfg := f.sshConfig()
	for {
		conn, err := f.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("sdi-gateway: sftp listener: %w", err)
		}
		select {
		case f.slots <- struct{}{}:
		default:
			f.s.log.WarnContext(ctx, "connection refused: too many at a time", "remote", conn.RemoteAddr().String(), "limit", ftpConnections)
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-f.slots }()
			f.connection(ctx, conn, cfg)
		})
	}
}

// connection serves one client until it leaves, is idle too long or the process ends.
func (f *ftpChannel) connection(ctx context.Context, raw net.Conn, cfg *ssh.ServerConfig) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn := &idleConn{Conn: raw}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(ftpHandshake))
	server, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		f.s.log.WarnContext(ctx, "SFTP login refused", "remote", raw.RemoteAddr().String(), "error", err)
		return
	}
	conn.start()
	f.s.log.InfoContext(ctx, "SdI's client is here", "remote", raw.RemoteAddr().String(), "key", server.Permissions.Extensions["key"])
	err = f.contact(ctx)
	if err != nil {
		f.s.log.WarnContext(ctx, "a visit was not written down", "error", err)
		return // nothing could be promised to it either
	}
	go ssh.DiscardRequests(requests)
	var all sync.WaitGroup
	for wanted := range channels {
		if wanted.ChannelType() != "session" {
			_ = wanted.Reject(ssh.UnknownChannelType, "only sftp is served here")
			continue
		}
		channel, requests, err := wanted.Accept()
		if err != nil {
			break
		}
		all.Go(func() { f.session(ctx, channel, requests) })
	}
	all.Wait()
}

// session serves the sftp subsystem and nothing else.
func (f *ftpChannel) session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		ok := r.Type == "subsystem" && len(r.Payload) > 4 && string(r.Payload[4:]) == "sftp"
		_ = r.Reply(ok, nil)
		if ok {
			go ssh.DiscardRequests(requests)
			break
		}
	}
	files := &ftpFiles{f: f, ctx: ctx}
	server := sftp.NewRequestServer(channel, sftp.Handlers{FileGet: files, FilePut: files, FileCmd: files, FileList: files})
	err := server.Serve()
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		f.s.log.WarnContext(ctx, "an SFTP session ended badly", "error", err)
	}
	_ = server.Close()
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
}

// contact notes that SdI's client was here.
func (f *ftpChannel) contact(ctx context.Context) error {
	return f.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).NoteContact(ctx, db.NoteContactParams{Node: f.s.cfg.FTP.Node, Now: pg.Time(f.s.now())})
	})
}

// idleConn ends a connection on which nothing comes for a while.
type idleConn struct {
	net.Conn
	mu      sync.Mutex
	started bool
}

func (c *idleConn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	_ = c.SetDeadline(time.Now().Add(ftpIdle))
}

func (c *idleConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started && n > 0 {
		_ = c.SetDeadline(time.Now().Add(ftpIdle))
	}
	return n, err
}
