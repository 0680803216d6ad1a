package services_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"ceralacca.dev/proto/catalog"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/rpc"
)

var updateGrants = flag.Bool("update", false, "write deploy/nats/permissions.conf anew")

const grantsFile = "../deploy/nats/permissions.conf"

// busServices are the targets that use the bus.
var busServices = []string{"conservation", "invoice", "notification", "pec-gateway", "sdi-gateway", "signer", "tenancy"}

// grant is what one service does on the bus, as its sources say.
type grant struct {
	emits    []string // subjects
	consumes []consumption
}

type consumption struct{ stream, durable, subject string }

// TestBusPermissions: deploy/nats/permissions.conf lets each service do what its sources do, and no more.
func TestBusPermissions(t *testing.T) {
	all := grantsOf(t)
	text := writeGrants(all)
	if *updateGrants {
		require.NoError(t, os.WriteFile(grantsFile, []byte(text), 0o644)) //nolint:gosec // configuration
	}
	kept, err := os.ReadFile(grantsFile)
	require.NoError(t, err)
	require.Equal(t, text, string(kept), "go test -run TestBusPermissions -update . in services writes it anew")
	emitted := map[string]bool{}
	for _, g := range all {
		for _, s := range g.emits {
			emitted[s] = true
		}
	}
	for _, e := range catalog.All() {
		require.True(t, emitted[e.Subject], "nobody makes %s: this test does not see everything", e.Subject)
	}
}

func grantsOf(t *testing.T) map[string]*grant {
	t.Helper()
	all := map[string]*grant{}
	for _, service := range busServices {
		g := &grant{}
		var files []*ast.File
		require.NoError(t, filepath.WalkDir(service, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			files = append(files, file)
			return err
		}))
		handlers := map[string]catalog.Entry{}
		for _, file := range files {
			readHandlers(file, handlers)
		}
		for _, file := range files {
			readUses(t, file, service, handlers, g)
		}
		slices.Sort(g.emits)
		g.emits = slices.Compact(g.emits)
		slices.SortFunc(g.consumes, func(a, b consumption) int { return strings.Compare(a.durable, b.durable) })
		all[service] = g
	}
	return all
}

// eventOf finds the event that a type expression names: pkg.T or *pkg.T.
func eventOf(file *ast.File, e ast.Expr) (catalog.Entry, bool) {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return catalog.Entry{}, false
	}
	alias, ok := selector.X.(*ast.Ident)
	if !ok {
		return catalog.Entry{}, false
	}
	for _, spec := range file.Imports {
		path, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "ceralacca.dev/proto/gen/")
		if ok && spec.Name != nil && spec.Name.Name == alias.Name {
			return catalog.ByMessage(protoreflect.FullName(strings.ReplaceAll(path, "/", ".") + "." + selector.Sel.Name))
		}
	}
	return catalog.Entry{}, false
}

// readHandlers notes the methods whose last parameter is an event.
func readHandlers(file *ast.File, handlers map[string]catalog.Entry) {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv == nil || len(fn.Type.Params.List) == 0 {
			continue
		}
		last := fn.Type.Params.List[len(fn.Type.Params.List)-1]
		if entry, ok := eventOf(file, last.Type); ok {
			handlers[fn.Name.Name] = entry
		}
	}
}

// readUses notes consumers (bus.On, and generic functions of one event and a name) and the events that are made.
func readUses(t *testing.T, file *ast.File, service string, handlers map[string]catalog.Entry, g *grant) {
	t.Helper()
	add := func(entry catalog.Entry, name string) {
		g.consumes = append(g.consumes, consumption{entry.Stream, service + "_" + name, entry.Subject})
	}
	own := map[*ast.CompositeLit]bool{} // made for a handler of its own, as if it had come: nobody publishes it
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if entry, ok := eventOf(file, n.Type); ok && !own[n] {
				g.emits = append(g.emits, entry.Subject)
			}
		case *ast.CallExpr:
			if len(n.Args) < 3 {
				return true
			}
			if method, ok := n.Fun.(*ast.SelectorExpr); ok {
				_, handles := handlers[method.Sel.Name]
				address, isAddress := n.Args[len(n.Args)-1].(*ast.UnaryExpr)
				if handles && isAddress {
					if made, ok := address.X.(*ast.CompositeLit); ok {
						own[made] = true
					}
				}
			}
			if generic, ok := n.Fun.(*ast.IndexExpr); ok {
				entry, isEvent := eventOf(file, generic.Index)
				name, isName := literal(n.Args[len(n.Args)-1])
				if isEvent && isName {
					add(entry, name)
				}
				return true
			}
			on, ok := n.Fun.(*ast.SelectorExpr)
			if x, isIdent := selectorOf(on, ok); !isIdent || x != "bus" || on.Sel.Name != "On" {
				return true
			}
			name, ok := literal(n.Args[1])
			if !ok {
				return true // in a generic function, whose callers name it
			}
			entry, ok := handled(file, n.Args[2], handlers)
			require.True(t, ok, "%s: which event the consumer %q takes cannot be read", service, name)
			add(entry, name)
		}
		return true
	})
}

func selectorOf(s *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return x.Name, true
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

func handled(file *ast.File, e ast.Expr, handlers map[string]catalog.Entry) (entry catalog.Entry, ok bool) {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		entry, ok = handlers[e.Sel.Name]
	case *ast.CallExpr:
		if generic, is := e.Fun.(*ast.IndexExpr); is {
			return eventOf(file, generic.Index)
		}
	}
	return entry, ok
}

// publishes are the subjects that a service may publish to: its events, and what its consumers ask JetStream.
func (g *grant) publishes() []string {
	list := slices.Clone(g.emits)
	list = append(list, "$JS.API.STREAM.INFO.*")
	for _, c := range g.consumes {
		of := c.stream + "." + c.durable
		list = append(list, "$JS.API.CONSUMER.CREATE."+of+"."+c.subject, "$JS.API.CONSUMER.INFO."+of, "$JS.API.CONSUMER.MSG.NEXT."+of, "$JS.ACK."+of+".>")
	}
	return list
}

func writeGrants(all map[string]*grant) string {
	var b strings.Builder
	b.WriteString(`# Who may publish and read what on the bus, from the contracts (proto/catalog) and the sources of the services.
# Written by a test: cd services && go test -run TestBusPermissions -update . Include it in the server's configuration
# beside tls { verify_and_map: true }: a user is a name in the client's certificate. See README.md in this folder.
authorization {
  users = [
`)
	for _, service := range busServices {
		fmt.Fprintf(&b, "    { user: %q\n      permissions: {\n        publish: { allow: [\n", service)
		for _, subject := range all[service].publishes() {
			fmt.Fprintf(&b, "          %q\n", subject)
		}
		fmt.Fprintf(&b, "        ] }\n        subscribe: { allow: [%q] }\n      } }\n", "_INBOX."+service+".>")
	}
	b.WriteString(`    # A process of several targets, and ` + "`ceralaccad bus apply`" + `, which alone makes and changes streams.
    { user: "ceralaccad"
      permissions: {
        publish: { allow: ["ceralacca.>", "$JS.API.>", "$JS.ACK.>"] }
        subscribe: { allow: ["_INBOX.ceralaccad.>"] }
      } }
  ]
}
`)
	return b.String()
}

// busServer is a NATS server with those permissions.
type busServer struct {
	url   string
	files rpc.Files
}

func startBusServer(t *testing.T) *busServer {
	t.Helper()
	dir := t.TempDir()
	s := &busServer{}
	var err error
	s.files, err = rpc.DevCertificates(filepath.Join(dir, "tls"), append([]string{"nats", "ceralaccad", "stranger"}, busServices...)...)
	require.NoError(t, err)
	conf, err := os.ReadFile("../deploy/nats/server.conf")
	require.NoError(t, err)
	text := strings.NewReplacer("0.0.0.0:4222", "127.0.0.1:-1", "/var/lib/nats", filepath.Join(dir, "js"), "/etc/nats/tls/ca.crt", s.files.CA,
		"/etc/nats/tls/server.crt", s.files.For("nats").Cert, "/etc/nats/tls/server.key", s.files.For("nats").Key).Replace(string(conf))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "server.conf"), []byte(text), 0o600))
	permissions, err := os.ReadFile(grantsFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "permissions.conf"), permissions, 0o600))
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "server.conf"))
	require.NoError(t, err)
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(opts)
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(time.Minute))
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	s.url = "tls://" + srv.Addr().String()
	return s
}

// client is a connection and what the server refused on it.
type busClient struct {
	*nats.Conn
	jetstream.JetStream

	mu      sync.Mutex
	refused map[string]bool
}

func (s *busServer) connect(name string) (*busClient, error) {
	c := &busClient{refused: map[string]bool{}}
	files := s.files.For(name)
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, err
	}
	c.Conn, err = nats.Connect(s.url, nats.Secure(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nats.RootCAs(s.files.CA),
		nats.CustomInboxPrefix("_INBOX."+name), nats.Timeout(time.Minute),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			said := strings.ToLower(err.Error())
			c.refused[said[max(0, strings.LastIndex(said, "permissions violation for")):]] = true
		}))
	if err != nil {
		return nil, err
	}
	c.JetStream, err = jetstream.New(c.Conn)
	return c, err
}

// refuses waits until the server has said no to all subjects.
func (c *busClient) refuses(t *testing.T, act string, subjects []string) {
	t.Helper()
	require.NoError(t, c.Flush())
	var open []string
	for range 6000 {
		c.mu.Lock()
		open = slices.DeleteFunc(slices.Clone(subjects), func(s string) bool {
			return c.refused[strings.ToLower(fmt.Sprintf("permissions violation for %s to %q", act, s))]
		})
		c.mu.Unlock()
		if len(open) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s was not refused: %q", act, open)
}

// TestBusPermissionsHold: on a real server with the shipped files every service can do all that it does on the bus, and
// nothing that others do; who is in no list is not let in.
func TestBusPermissionsHold(t *testing.T) {
	all := grantsOf(t)
	s := startBusServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, err := s.connect("stranger")
	require.ErrorIs(t, err, nats.ErrAuthorization)
	_, err = nats.Connect(s.url, nats.RootCAs(s.files.CA))
	require.Error(t, err, "no certificate")

	operator, err := s.connect("ceralaccad")
	require.NoError(t, err)
	defer operator.Close()
	require.NoError(t, bus.Apply(ctx, operator.JetStream, bus.ApplyConfig{}))
	clients := map[string]*busClient{}
	for _, service := range busServices {
		clients[service], err = s.connect(service)
		require.NoError(t, err)
		defer clients[service].Close()
		require.NoError(t, bus.Apply(ctx, clients[service].JetStream, bus.ApplyConfig{OnlyMissing: true}), "what a service asks at its start")
		for _, subject := range all[service].emits {
			_, err = clients[service].JetStream.Publish(ctx, subject, []byte("x"))
			require.NoError(t, err, "%s says %s", service, subject)
		}
	}
	for _, service := range busServices {
		for _, c := range all[service].consumes {
			clients[service].consume(ctx, t, c)
		}
	}
	for _, service := range busServices {
		foreign(t, service, clients[service], all)
	}
}

// consume does what a consumer of the bus does, with one message.
func (c *busClient) consume(ctx context.Context, t *testing.T, of consumption) {
	t.Helper()
	cons, err := c.CreateOrUpdateConsumer(ctx, of.stream, jetstream.ConsumerConfig{Durable: of.durable, FilterSubject: of.subject, AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err, "%+v", of)
	batch, err := cons.Fetch(1, jetstream.FetchMaxWait(time.Minute))
	require.NoError(t, err, "%+v", of)
	n := 0
	for m := range batch.Messages() {
		n++
		require.NoError(t, m.InProgress())
		require.NoError(t, m.DoubleAck(ctx), "%+v", of)
	}
	require.Equal(t, 1, n, "%+v: %v", of, batch.Error())
	_, err = cons.Info(ctx)
	require.NoError(t, err)
}

// foreign tries what is others'.
func foreign(t *testing.T, service string, c *busClient, all map[string]*grant) {
	t.Helper()
	mine := all[service].publishes()
	tried := []string{"$JS.API.STREAM.DELETE.SDI", "$JS.API.STREAM.PURGE.SDI", "$JS.API.STREAM.UPDATE.SDI", "$JS.API.STREAM.MSG.GET.SDI", "$JS.API.CONSUMER.DELETE.SDI.x", "_INBOX.other.x"}
	for _, e := range catalog.All() {
		tried = append(tried, e.Subject, "$JS.API.CONSUMER.CREATE."+e.Stream+"."+service+"_mine."+e.Subject)
	}
	for _, g := range all {
		for _, subject := range g.publishes() {
			tried = append(tried, strings.ReplaceAll(strings.ReplaceAll(subject, ">", "1.1.1.1.1"), "INFO.*", "INFO.SDI"))
		}
	}
	var wrong []string
	for _, subject := range tried {
		if slices.Contains(mine, subject) || slices.Contains(mine, strings.TrimSuffix(subject, "1.1.1.1.1")+">") || strings.HasPrefix(subject, "$JS.API.STREAM.INFO.") {
			continue
		}
		require.NoError(t, c.Conn.Publish(subject, []byte("forged")))
		wrong = append(wrong, subject)
	}
	c.refuses(t, "publish", wrong)
	wrong = []string{"ceralacca.>", "_INBOX.>", "_INBOX.ceralaccad.>", "$JS.ACK.>"}
	for _, subject := range wrong {
		_, err := c.SubscribeSync(subject)
		require.NoError(t, err)
	}
	c.refuses(t, "subscription", wrong)
}
