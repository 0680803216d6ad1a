package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func serveCommand() *cobra.Command {
	var dir, level string
	var fresh bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the platform until Ctrl-C; what it holds is kept for the next time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := stateDir(dir, "dev")
			if err != nil {
				return err
			}
			return serve(cmd.Context(), worldOptions{dir: state, database: "ceralacca_dev", fresh: fresh, progress: os.Stderr}, level)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder that keeps the servers' files (default: .cache/dev of the checkout)")
	cmd.Flags().BoolVar(&fresh, "fresh", false, "forget everything that an earlier run kept")
	cmd.Flags().StringVar(&level, "log", "warn", "log level: debug, info, warn or error")
	return cmd
}

func serve(ctx context.Context, o worldOptions, level string) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		closeErr := w.close()
		if err == nil {
			err = closeErr
		}
	}()
	err = w.offerSigning(ctx)
	if err != nil {
		return err
	}
	p, err := w.startPlatform(ctx, platformOptions{level: level, log: os.Stderr})
	if err != nil {
		return err
	}
	defer p.stop()
	tenant, err := w.onboard(ctx, signv1.KeyType_KEY_TYPE_EC_P256)
	if err != nil {
		return err
	}
	defer tenant.conn.Close()
	credential, err := w.signatory(ctx, tenant)
	if err != nil {
		return err
	}
	err = w.trustMail(ctx)
	if err != nil {
		return err
	}
	err = w.writeCLIConfig(tenant.key, credential)
	if err != nil {
		return err
	}
	w.printAddresses(tenant.key, credential)
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "stopping")
		return nil
	case err := <-p.ended:
		return err
	}
}

// printAddresses says where everything is and what to try first.
func (w *world) printAddresses(key, credential string) {
	fmt.Printf(`The platform is up. Nothing here is real: certificates say SANDBOX, SdI is played by the sandbox.

  gRPC API       %s   (TLS, CA %s)
  CSC API        %s   (credential %s, PIN %s)
  text messages  %s   (token in CERALACCA_MESSAGES_TOKEN)
  admin          http://%s   (/readyz /metrics /config /breakers /jobs)
  sandbox        %s   (control API: clock, faults, what SdI received)
  PostgreSQL     %s
  Vault          %s   (token %s)
  mail sink      %s
  PEC sandbox    SMTPS %s, IMAPS %s   (mittente@alfa.test, destinatario@beta.test, password sandbox)

  tenant key     %s
  operator key   %s

First commands, in another terminal (the CLI finds the address and the key in %s):

  . %s
  ceralacca invoice submit --company %s FILE.xml
  ceralacca invoice list
  ceralacca trace INVOICE
  ceralacca events tail
  echo sandbox | ceralacca pec mailbox add mittente@alfa.test --provider sandbox
  ceralacca pec send mittente@alfa.test --to destinatario@beta.test --subject Prova --text Salve
  CERALACCA_API_KEY=$CERALACCA_OPERATOR_KEY ceralacca parked ls

Ctrl-C ends it; what it holds is kept.
`, w.ports["rpc"], w.certs.CA, w.cscURL(), path.Base(credential), signatoryPIN, w.messagesURL(), w.ports["admin"], w.sdi.ControlURL, w.postgres.URL(w.database), w.vault.Addr, w.vault.Token,
		w.sdi.SMTPAddr, w.sdi.PEC.SMTPSAddr, w.sdi.PEC.IMAPSAddr, key, w.key, w.path("env.sh"), w.path("env.sh"), companyName)
}

// writeCLIConfig leaves a file that a shell can read, so that the CLI finds the platform.
func (w *world) writeCLIConfig(key, credential string) error {
	root, err := binDir()
	if err != nil {
		return err
	}
	token, err := os.ReadFile(w.path("secrets", "messages.token"))
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, v := range [][2]string{
		{"SERVER", w.ports["rpc"]}, {"CA_FILE", w.certs.CA}, {"API_KEY", key}, {"OPERATOR_KEY", w.key}, {"TENANT", tenantName},
		{"SANDBOX", w.sdi.ControlURL}, {"CSC", w.cscURL()}, {"CSC_CREDENTIAL", path.Base(credential)}, {"CSC_PIN", signatoryPIN},
		{"MESSAGES", w.messagesURL()}, {"MESSAGES_TOKEN", string(token)},
	} {
		fmt.Fprintf(&text, "export CERALACCA_%s=%s\n", v[0], quoted(v[1]))
	}
	fmt.Fprintf(&text, "export PATH=%s:\"$PATH\"\n", quoted(root))
	return os.WriteFile(w.path("env.sh"), []byte(text.String()), 0o600)
}

// quoted is a word of the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
