package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/otp"
)

// transmitter is the fiscal identity that the sandbox SdI knows this platform by. Its check digit is right
// and it belongs to nobody.
const transmitter = "IT02345678904"

// Recipient codes that the sandbox SdI delivers to this platform: a channel's, which companies share, and one
// of an office of a public body.
const (
	inboundCode   = "CERALAC"
	inboundOffice = "UFCERA"
)

// worldOptions say what to bring up around the platform.
type worldOptions struct {
	dir      string    // everything lives below it
	database string    // name of the database; a fresh start drops it, also on the server of DATABASE_URL
	fresh    bool      // forget what an earlier run left
	nats     bool      // a nats-server process of its own instead of the embedded one
	private  bool      // ignore DATABASE_URL, NATS_URL and VAULT_ADDR: for tests that break servers
	progress io.Writer // lines for slow steps
	sandbox  sandbox.Config
}

// world is what production brings itself: PostgreSQL, Vault, NATS, the exchange, an authority, a mail
// server. Real servers on loopback, stopped with it.
type world struct {
	dir      string
	postgres *postgres.Cluster
	database string
	vault    *vault.Server
	logins   map[string]vault.Credentials // of the services that use Vault
	nats     *nats.Server                 // nil: embedded, or external by NATS_URL
	natsURL  string
	sandbox  *sandbox.Server
	sdi      client.Endpoints
	certs    rpc.Files
	key      string // operators' API key
	ports    map[string]string

	phones   *otp.Provider // of text messages; nil: there is none
	messages *http.Server

	impatient bool // short pauses in the configuration
}

// newWorld brings everything up; on an error it takes down what is up already.
func newWorld(ctx context.Context, o worldOptions) (w *world, err error) {
	w = &world{dir: o.dir, database: o.database, ports: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	err = w.prepareDir(o.fresh)
	if err != nil {
		return w, err
	}
	// Beside the targets, nats is the server's own name and ceralaccad that of operators and of a process of several targets.
	w.certs, err = rpc.DevCertificates(w.path("rpc"), append(targetNames(), operatorName, "nats")...)
	if err != nil {
		return w, err
	}
	err = w.startStores(ctx, o)
	if err != nil {
		return w, err
	}
	err = w.startSandbox(ctx, o)
	if err != nil {
		return w, err
	}
	return w, w.makeSecrets()
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) prepareDir(fresh bool) error {
	if fresh {
		// The database is dropped by name and the cluster kept: initdb is the slow part of a start.
		for _, name := range []string{"blob", "archive", "nats", "vault", "sandbox", "rpc", "secrets", "sdi"} {
			err := os.RemoveAll(w.path(name))
			if err != nil {
				return fmt.Errorf("forget the last run: %w", err)
			}
		}
	}
	for _, name := range []string{"blob", "archive/primary", "archive/second", "nats", "vault", "sandbox", "secrets", "sdi"} {
		err := os.MkdirAll(w.path(name), 0o700)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startStores(ctx context.Context, o worldOptions) error {
	var err error
	w.postgres, err = postgres.Start(ctx, postgres.Options{Dir: w.path("pg"), Private: o.private, Progress: o.progress})
	if err != nil {
		return err
	}
	if o.fresh {
		err = dropDatabase(ctx, w.postgres.URL("postgres"), w.database)
		if err != nil {
			return err
		}
	}
	err = w.postgres.EnsureDatabase(ctx, w.database)
	if err != nil {
		return err
	}
	w.vault, err = vault.Start(ctx, vault.Options{Dir: w.path("vault"), Private: o.private, Audit: w.path("vault-audit.log"), Progress: o.progress})
	if err != nil {
		return err
	}
	root, err := devenv.Root()
	if err != nil {
		return err
	}
	w.logins, err = w.vault.Provision(ctx, filepath.Join(root, "deploy", "vault"))
	if err != nil {
		return err
	}
	switch url := os.Getenv("NATS_URL"); {
	case url != "" && !o.private:
		err = answers(url)
		if err != nil {
			return err
		}
		w.natsURL = url
	case o.nats:
		return w.startNATS(ctx, filepath.Join(root, "deploy", "nats", "permissions.conf"), o.progress)
	}
	return nil
}

// answers tells at once that the server of NATS_URL is away: services would wait for it.
func answers(url string) error {
	conn, err := natsgo.Connect(url, natsgo.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("NATS_URL is set but its server does not answer (unset it to use one inside the process): %w", err)
	}
	conn.Close()
	return nil
}

// operatorName is the user of `ceralaccad bus apply`.
const operatorName = "ceralaccad"

// startNATS starts a server with the permissions that we ship, and makes the streams as an operator does: no service may.
func (w *world) startNATS(ctx context.Context, permissions string, progress io.Writer) error {
	server, operator := w.certs.For("nats"), w.certs.For(operatorName)
	var err error
	w.nats, err = nats.Start(ctx, nats.Options{Dir: w.path("nats"), Progress: progress, Grants: &nats.Grants{
		Cert: server.Cert, Key: server.Key, CA: server.CA, ClientCert: operator.Cert, ClientKey: operator.Key, ClientName: operatorName,
		Permissions: permissions,
	}})
	if err != nil {
		return err
	}
	w.natsURL = w.nats.URL()
	conn, err := w.nats.Connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	return bus.Apply(ctx, js, bus.ApplyConfig{})
}

// startSandbox starts the simulators and has the platform accredited with the sandbox SdI, as a real
// transmitter would be: a client certificate to call, a server certificate to be called.
func (w *world) startSandbox(ctx context.Context, o worldOptions) error {
	cfg := o.sandbox
	cfg.Dir = w.path("sandbox")
	var err error
	w.sandbox, err = sandbox.Start(ctx, cfg)
	if err != nil {
		return err
	}
	w.sdi = w.sandbox.Endpoints()
	callback, _, err := devenv.FreeAddress()
	if err != nil {
		return err
	}
	w.ports["callback"] = callback
	granted, err := client.New(w.sdi.ControlURL).Accredit(ctx, client.AccreditationRequest{
		FiscalID: transmitter[2:], CallbackURL: "https://" + callback + "/trasmissione",
		ReceptionURL: "https://" + callback + "/ricezione", RecipientCodes: []string{inboundCode, inboundOffice},
	})
	if err != nil {
		return fmt.Errorf("accreditation with the sandbox: %w", err)
	}
	for name, pem := range map[string]string{
		"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM,
		"server.crt": granted.ServerCertPEM, "server.key": granted.ServerKeyPEM, "ca.crt": granted.CAPEM,
	} {
		err = os.WriteFile(w.path("sdi", name), []byte(pem), 0o600)
		if err != nil {
			return err
		}
	}
	return nil
}

// makeSecrets makes what the platform's services need to know each other, and the operators' first key.
func (w *world) makeSecrets() error {
	var err error
	w.key, err = keepSecret(w.path("secrets", "operator.key"), func() (string, error) { return auth.NewKey(false) })
	if err != nil {
		return err
	}
	_, err = keepSecret(w.path("secrets", "notification.key"), randomKey)
	if err != nil {
		return err
	}
	_, err = keepSecret(w.path("secrets", "log.key"), logKey)
	if err != nil {
		return err
	}
	for service, login := range w.logins {
		for name, value := range map[string]string{".role-id": login.RoleID, ".secret-id": login.SecretID} {
			err = os.WriteFile(w.path("secrets", service+name), []byte(value), 0o600)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// randomKey is 256 bits in base64.
func randomKey() (string, error) {
	var raw [32]byte
	_, err := rand.Read(raw[:])
	return base64.StdEncoding.EncodeToString(raw[:]), err
}

// logKey is the key of the log of evidence, as openssl genpkey -algorithm ed25519 makes it.
func logKey() (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// keepSecret reads a secret, or makes and stores it the first time.
func keepSecret(file string, make func() (string, error)) (string, error) {
	kept, err := os.ReadFile(file)
	if err == nil {
		return string(kept), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	secret, err := make()
	if err != nil {
		return "", err
	}
	return secret, os.WriteFile(file, []byte(secret), 0o600)
}

// close takes everything down, last up first.
func (w *world) close() error {
	var problems []error
	if w.messages != nil {
		problems = append(problems, w.messages.Close())
	}
	if w.sandbox != nil {
		w.sandbox.Close()
	}
	if w.nats != nil {
		problems = append(problems, w.nats.Stop())
	}
	if w.vault != nil {
		problems = append(problems, w.vault.Stop())
	}
	if w.postgres != nil {
		problems = append(problems, w.postgres.Stop())
	}
	return errors.Join(problems...)
}
