package signer_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/sandbox/ca"
)

// vaultWordsEnv has this program be the vault of a README.
const vaultWordsEnv = "CERALACCA_TEST_VAULT_WORDS"

// vaultWords does what the program vault does with the words of our READMEs, against the server of VAULT_ADDR: each is one request, as
// its documentation has it. A word that is not known is an error.
func vaultWords(args []string) error {
	client, err := api.NewClient(api.DefaultConfig()) // VAULT_ADDR and VAULT_TOKEN
	if err != nil {
		return err
	}
	cut := func(n int) string {
		verb := strings.Join(args[:min(n, len(args))], " ")
		args = args[min(n, len(args)):]
		return verb
	}
	verb := cut(1)
	switch verb {
	case "audit", "secrets", "policy", "auth", "kv":
		verb += " " + cut(1)
	}
	flags := flag.NewFlagSet("vault "+verb, flag.ContinueOnError)
	path, field, force := flags.String("path", "", ""), flags.String("field", "", ""), flags.Bool("f", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("vault %s: of what?", verb)
	}
	what, data := flags.Arg(0), map[string]any{}
	rest := flags.Args()[1:]
	if verb == "policy write" {
		rest = nil
	}
	for _, pair := range rest {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case strings.HasPrefix(pair, "@"):
			raw, err := os.ReadFile(pair[1:])
			if err != nil {
				return err
			}
			if err := json.Unmarshal(raw, &data); err != nil {
				return err
			}
		case ok && strings.HasPrefix(value, "@"):
			raw, err := os.ReadFile(value[1:])
			if err != nil {
				return err
			}
			data[name] = string(raw)
		case ok:
			data[name] = value
		default:
			return fmt.Errorf("vault %s: %q is no name=value", verb, pair)
		}
	}
	where := *path
	if where == "" {
		where = what
	}
	var secret *api.Secret
	switch verb {
	case "audit enable":
		options := map[string]string{}
		for name, value := range data {
			options[name] = fmt.Sprint(value)
		}
		err = client.Sys().EnableAuditWithOptions(where, &api.EnableAuditOptions{Type: what, Options: options})
	case "secrets enable":
		input := &api.MountInput{Type: what}
		if what == "kv-v2" {
			input.Type, input.Options = "kv", map[string]string{"version": "2"}
		}
		err = client.Sys().Mount(where, input)
	case "auth enable":
		err = client.Sys().EnableAuthWithOptions(where, &api.EnableAuthOptions{Type: what})
	case "policy write":
		var rules []byte
		if rules, err = os.ReadFile(flags.Arg(1)); err == nil {
			err = client.Sys().PutPolicy(what, string(rules))
		}
	case "write":
		if len(data) == 0 && !*force {
			return fmt.Errorf("vault write %s: nothing to write (-f)", what)
		}
		secret, err = client.Logical().Write(what, data)
	case "read":
		if secret, err = client.Logical().Read(what); err == nil && secret == nil {
			err = fmt.Errorf("vault read %s: no value found", what)
		}
	case "kv put":
		mount, name, _ := strings.Cut(what, "/")
		_, err = client.Logical().Write(mount+"/data/"+name, map[string]any{"data": data})
	default:
		return fmt.Errorf("vault %s: no README says this", verb)
	}
	if err != nil || *field == "" {
		return err
	}
	fmt.Print(secret.Data[*field])
	return nil
}

// TestVaultIsSetUpAsWritten runs the commands of deploy/vault/README.md against a Vault that has nothing, and then a signer, which makes a
// key there and signs with it.
func TestVaultIsSetUpAsWritten(t *testing.T) {
	t.Parallel()
	server, err := vault.Start(t.Context(), vault.Options{Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	root, err := devenv.Root()
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "deploy", "vault", "README.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 4, "set-up, cluster, a secret, after an upgrade")
	self, err := os.Executable()
	require.NoError(t, err)
	checkout, logs := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(root, "deploy"), filepath.Join(checkout, "deploy")))
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "ca.crt"), authority.CertPEM(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "reviewer.jwt"), []byte("a token of the cluster"), 0o600))
	script := "vault() { " + vaultWordsEnv + "=1 \"$PROGRAM\" \"$@\"; }\n"
	for _, block := range blocks {
		script += block[1]
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, "/var/log/vault/", logs+"/"))
	cmd.Dir = checkout
	cmd.Env = append(os.Environ(), "PROGRAM="+self, "VAULT_ADDR="+server.Addr, "VAULT_TOKEN="+server.Token)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)

	loginOf := func(service string) vault.Credentials {
		out := vault.Credentials{Role: service}
		for suffix, into := range map[string]*string{"role-id": &out.RoleID, "secret-id": &out.SecretID} {
			file := filepath.Join(checkout, service+"."+suffix)
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			*into = string(raw)
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.EqualValues(t, 0o600, info.Mode().Perm(), file)
		}
		return out
	}
	mine := &safe{Server: server, role: loginOf("signer"), audit: filepath.Join(logs, "audit.log"), patience: 20 * time.Second}
	ownVaults.Store(t, mine)
	h := open(t)
	keeper := h.credential(t, company, role, p256)
	require.NoError(t, h.signBlob(t, keeper.GetName(), "an index"))
	written, err := os.ReadFile(mine.audit)
	require.NoError(t, err)
	require.Contains(t, string(written), "transit/sign/ceralacca-"+last(keeper.GetName()), "Vault has written down what was signed")

	signer, err := server.Login(t.Context(), mine.role)
	require.NoError(t, err)
	kept, err := signer.Logical().ReadWithContext(t.Context(), "secret/data/signer/automatic/TENANT/NAME")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"password": "12345678"}, kept.Data["data"])
	pec, err := server.Login(t.Context(), loginOf("pec-gateway"))
	require.NoError(t, err)
	_, err = pec.Logical().WriteWithContext(t.Context(), "secret/data/pec-gateway/mailboxes/acme/main", map[string]any{"data": map[string]any{"password": "x"}})
	require.NoError(t, err)
	_, err = pec.Logical().ReadWithContext(t.Context(), "secret/data/signer/automatic/TENANT/NAME")
	require.ErrorContains(t, err, "permission denied", "each has its own")
	admin, err := server.Client()
	require.NoError(t, err)
	inCluster, err := admin.Logical().ReadWithContext(t.Context(), "auth/kubernetes/role/signer")
	require.NoError(t, err)
	require.Equal(t, []any{"signer"}, inCluster.Data["bound_service_account_names"])
	require.Equal(t, "vault", inCluster.Data["audience"])
}
