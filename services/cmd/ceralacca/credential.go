package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) sign() (signv1.SignServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewSignServiceClient(conn), err
}

func (c *cli) credentialCommand() *cobra.Command {
	var company, kind, key, common string
	var remote remoteKey
	create := verb("create", "Make a key in Vault and its certificate request, or a credential of a provider's key", args(), func(ctx context.Context, _ []string) error {
		if remote.provider != "" {
			if kind == "" { // as it was before there were others
				kind = "person"
			}
			return c.createHeld(ctx, company, kind, remote)
		}
		if kind == "" {
			kind = "automatic"
		}
		err := need("company", company, "common-name", common)
		if err != nil {
			return err
		}
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		keyType, ok := map[string]signv1.KeyType{"p256": signv1.KeyType_KEY_TYPE_EC_P256, "rsa3072": signv1.KeyType_KEY_TYPE_RSA_3072}[key]
		if !ok {
			return usage("--key is p256 or rsa3072, not %q", key)
		}
		kinds, ok := map[string]signv1.CredentialKind{"automatic": signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC, "role": signv1.CredentialKind_CREDENTIAL_KIND_ROLE,
			"person": signv1.CredentialKind_CREDENTIAL_KIND_PERSON, "seal": signv1.CredentialKind_CREDENTIAL_KIND_SEAL}[kind]
		if !ok {
			return usage("--kind is automatic, role, person or seal, not %q", kind)
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		made, err := api.CreateCredential(ctx, &signv1.CreateCredentialRequest{
			Parent: parent, RequestId: uuid.NewString(), Credential: &signv1.Credential{Kind: kinds, KeyType: keyType, CommonName: common},
		})
		if err != nil {
			return err
		}
		return c.print(made, func() {
			c.fields("name", made.GetName(), "state", enum("CREDENTIAL_STATE_", made.GetState()), "level", enum("SIGNATURE_LEVEL_", made.GetLevel()))
			fmt.Fprint(c.out, made.GetCsrPem())
		})
	})
	create.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company that signs")
	create.Flags().StringVar(&kind, "kind", "", "automatic (a company's invoices; when not set), role (the platform's conservation), person (signs with ceralacca sign; when not set and with --provider) or seal (documents, by mandate)")
	create.Flags().StringVar(&key, "key", "p256", "p256 or rsa3072")
	create.Flags().StringVar(&common, "common-name", "", "name in the certificate")
	remote.flags(create)
	create.Flags().StringVar(&remote.holder, "holder", "", "with --provider, of a person: whose credential it is, by which signature requests know them; an id of yours (no name, no codice fiscale)")
	imported := verb("import CREDENTIAL FILE", "Import the certificate of a credential, PEM, leaf first", args("CREDENTIAL", "FILE"), func(ctx context.Context, given []string) error {
		raw, err := c.read(given[1])
		if err != nil {
			return err
		}
		if block, _ := pem.Decode(raw); block == nil {
			return usage("%s holds no PEM certificate", given[1])
		}
		name, err := c.credentialName(company, given[0])
		if err != nil {
			return err
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		done, err := api.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: name, CertificatePem: string(raw)})
		if err != nil {
			return err
		}
		return c.print(done, func() {
			c.fields("name", done.GetName(), "state", enum("CREDENTIAL_STATE_", done.GetState()), "expires", when(done.GetExpireTime()))
		})
	})
	imported.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name")
	list := c.lister(verb("ls", "List credentials", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", "-")
		if err != nil {
			return err
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListCredentialsResponse, error) {
			return api.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, k := range page.GetCredentials() {
				rows = append(rows, []string{k.GetName(), enum("CREDENTIAL_STATE_", k.GetState()), enum("KEY_TYPE_", k.GetKeyType()), enum("SIGNATURE_LEVEL_", k.GetLevel()), k.GetProvider(), k.GetCommonName(), when(k.GetExpireTime())})
			}
			c.table([]string{"CREDENTIAL", "STATE", "KEY", "LEVEL", "PROVIDER", "NAME", "EXPIRES"}, rows)
		})
	}))
	all := group("credential", "Signing credentials: keys in Vault and their certificates", create, imported, list, c.credentialAct("get", "Show a credential", &company,
		func(ctx context.Context, api signv1.SignServiceClient, name string) (*signv1.Credential, error) {
			return api.GetCredential(ctx, &signv1.GetCredentialRequest{Name: name})
		}), c.credentialAct("revoke", "Revoke a credential: it signs no more; it is final", &company,
		func(ctx context.Context, api signv1.SignServiceClient, name string) (*signv1.Credential, error) {
			return api.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: name})
		}))
	all.AddCommand(c.credentialLife(&company)...)
	all.AddCommand(c.providerCommands(&company)...)
	return all
}

// credentialName completes a short name, which needs the company.
func (c *cli) credentialName(company, name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	err := need("company", company)
	if err != nil {
		return "", err
	}
	return c.within("companies/"+last(company)+"/credentials", name)
}

// credentialAct is a command on one credential that shows what it is afterwards.
func (c *cli) credentialAct(use, short string, company *string, act func(context.Context, signv1.SignServiceClient, string) (*signv1.Credential, error)) *cobra.Command {
	cmd := verb(use+" CREDENTIAL", short, args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		api, err := c.sign()
		if err != nil {
			return err
		}
		k, err := act(ctx, api, name)
		if err != nil {
			return err
		}
		return c.print(k, func() {
			c.fields("name", k.GetName(), "state", enum("CREDENTIAL_STATE_", k.GetState()), "kind", enum("CREDENTIAL_KIND_", k.GetKind()),
				"key", enum("KEY_TYPE_", k.GetKeyType()), "level", enum("SIGNATURE_LEVEL_", k.GetLevel()), "common name", k.GetCommonName(), "expires", when(k.GetExpireTime()))
		})
	})
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}
