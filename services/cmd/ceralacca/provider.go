package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) providers() (signv1.ProviderServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewProviderServiceClient(conn), err
}

// remoteKey are the flags that name a key at a provider.
type remoteKey struct{ provider, id, user, otp, secret, holder string }

func (k *remoteKey) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.provider, "provider", "", "provider that holds the key, as the configuration calls it (credential providers)")
	f.StringVar(&k.id, "remote-id", "", "the provider's name for the key: credentialID (csc), certID (arss, usually AS0), device (sws)")
	f.StringVar(&k.user, "remote-user", "", "the holder's account there, where there is one beside the id")
	f.StringVar(&k.otp, "otp-kind", "", "how the holder gets passwords: SMS, EMAIL, CALL, PUSH or APP; the first that the provider names when not set")
	f.StringVar(&k.secret, "secret", "", "for automatic, seal and role: name of the secret in Vault that the provider signs for (secret/signer/automatic/TENANT/NAME; fields password, and with arss user and domain)")
}

func (k *remoteKey) message() (*signv1.RemoteKey, error) {
	err := need("provider", k.provider, "remote-id", k.id)
	return &signv1.RemoteKey{Provider: k.provider, Id: k.id, User: k.user, OtpKind: strings.ToUpper(k.otp), Secret: k.secret}, err
}

// createHeld makes a credential of a key at a provider.
func (c *cli) createHeld(ctx context.Context, company, kind string, key remoteKey) error {
	of, ok := map[string]signv1.CredentialKind{
		"person": signv1.CredentialKind_CREDENTIAL_KIND_PERSON, "automatic": signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC, "seal": signv1.CredentialKind_CREDENTIAL_KIND_SEAL,
		"role": signv1.CredentialKind_CREDENTIAL_KIND_ROLE,
	}[kind]
	if !ok {
		return usage("--kind with --provider is person, automatic, seal or role, not %q", kind)
	}
	err := need("company", company)
	if err != nil {
		return err
	}
	parent, err := c.within("companies", company)
	if err != nil {
		return err
	}
	ask, err := key.message()
	if err != nil {
		return err
	}
	api, err := c.providers()
	if err != nil {
		return err
	}
	if key.holder != "" {
		if key.holder, err = c.within("users", key.holder); err != nil {
			return err
		}
	}
	made, err := api.CreateProviderCredential(ctx, &signv1.CreateProviderCredentialRequest{Parent: parent, Key: ask, Kind: of, Holder: key.holder, RequestId: uuid.NewString()})
	if err != nil {
		return err
	}
	return c.print(made, func() {
		c.fields("name", made.GetName(), "provider", made.GetProvider(), "kind", enum("CREDENTIAL_KIND_", made.GetKind()), "state", enum("CREDENTIAL_STATE_", made.GetState()),
			"level", enum("SIGNATURE_LEVEL_", made.GetLevel()), "common name", made.GetCommonName(), "expires", when(made.GetExpireTime()))
	})
}

// providerCommands are about keys outside the house.
func (c *cli) providerCommands(company *string) []*cobra.Command {
	var key remoteKey
	from := ""
	change := verb("switch CREDENTIAL", "Have another key at a provider take a credential's place, from a date on", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		req := &signv1.SwitchProviderRequest{Name: name}
		if req.Key, err = key.message(); err != nil {
			return err
		}
		if from != "" {
			if req.EffectiveTime, err = parseTime("from", from); err != nil {
				return err
			}
		}
		api, err := c.providers()
		if err != nil {
			return err
		}
		h, err := api.SwitchProvider(ctx, req)
		if err != nil {
			return err
		}
		return c.print(h, func() {
			c.fields("name", h.GetName(), "provider", h.GetKey().GetProvider(), "from", when(h.GetEffectiveTime()), "expires", when(h.GetExpireTime()))
		})
	})
	key.flags(change)
	change.Flags().StringVar(&from, "from", "", "date; now when not set. Challenges that were begun before go on with the key of before")
	change.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	holdings := verb("holdings CREDENTIAL", "Show who held, holds and will hold a credential's key", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		api, err := c.providers()
		if err != nil {
			return err
		}
		list, err := api.ListHoldings(ctx, &signv1.ListHoldingsRequest{Parent: name})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, h := range list.GetHoldings() {
				rows = append(rows, []string{when(h.GetEffectiveTime()), h.GetKey().GetProvider(), h.GetKey().GetId(), enum("KEY_TYPE_", h.GetKeyType()),
					enum("SIGNATURE_LEVEL_", h.GetLevel()), fmt.Sprint(h.GetScal()), h.GetKey().GetOtpKind(), when(h.GetExpireTime())})
			}
			c.table([]string{"FROM", "PROVIDER", "KEY", "TYPE", "LEVEL", "SCAL", "PASSWORDS", "EXPIRES"}, rows)
		})
	})
	holdings.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return []*cobra.Command{c.providerList(), change, holdings, c.providerCalls(), c.providerResolve()}
}

func (c *cli) providerList() *cobra.Command {
	return verb("providers", "List the providers of remote signatures of this installation", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.ownTenant()
		if err != nil {
			return err
		}
		api, err := c.providers()
		if err != nil {
			return err
		}
		list, err := api.ListProviders(ctx, &signv1.ListProvidersRequest{Parent: parent})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, p := range list.GetProviders() {
				rows = append(rows, []string{p.GetName(), p.GetKind(), fmt.Sprint(p.GetQualified()), p.GetBreaker()})
			}
			c.table([]string{"PROVIDER", "KIND", "QUALIFIED", "BREAKER"}, rows)
		})
	})
}

func (c *cli) providerCalls() *cobra.Command {
	unknown := false
	cmd := c.lister(verb("calls", "List calls that spent a password or could have signed at a provider", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.ownTenant()
		if err != nil {
			return err
		}
		api, err := c.providers()
		if err != nil {
			return err
		}
		state := signv1.ProviderCallState_PROVIDER_CALL_STATE_UNSPECIFIED
		if unknown {
			state = signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN
		}
		list, err := collect(c, func(token string, size int32) (*signv1.ListProviderCallsResponse, error) {
			return api.ListProviderCalls(ctx, &signv1.ListProviderCallsRequest{Parent: parent, State: state, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, k := range list.GetProviderCalls() {
				rows = append(rows, []string{k.GetName(), when(k.GetSendTime()), k.GetProvider(), k.GetStep(), fmt.Sprintf("%d/%d", k.GetSignatureCount(), k.GetHashCount()),
					enum("PROVIDER_CALL_STATE_", k.GetState()), k.GetCode(), enum("PROVIDER_CALL_RESOLUTION_", k.GetResolution())})
			}
			c.table([]string{"CALL", "SENT", "PROVIDER", "STEP", "SIGNED", "STATE", "CODE", "FOUND OUT"}, rows)
		})
	}))
	cmd.Flags().BoolVar(&unknown, "unknown", false, "only those whose outcome is not known: somebody has to look at the provider's own list")
	return cmd
}

func (c *cli) providerResolve() *cobra.Command {
	found, note := "", ""
	cmd := verb("resolve CALL", "Write down what was found out about a call whose outcome was unknown; nothing is repeated by it", args("CALL"), func(ctx context.Context, given []string) error {
		err := need("found", found, "note", note)
		if err != nil {
			return err
		}
		resolution, ok := map[string]signv1.ProviderCallResolution{
			"signed": signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_SIGNED, "not-signed": signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_NOT_SIGNED,
			"undetermined": signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_UNDETERMINED,
		}[found]
		if !ok {
			return usage("--found is signed, not-signed or undetermined, not %q", found)
		}
		name := given[0]
		if !strings.Contains(name, "/") {
			if name, err = c.within("providerCalls", name); err != nil {
				return err
			}
		}
		api, err := c.providers()
		if err != nil {
			return err
		}
		done, err := api.ResolveProviderCall(ctx, &signv1.ResolveProviderCallRequest{Name: name, Resolution: resolution, Note: note})
		if err != nil {
			return err
		}
		return c.print(done, func() {
			c.fields("name", done.GetName(), "state", enum("PROVIDER_CALL_STATE_", done.GetState()), "found out", enum("PROVIDER_CALL_RESOLUTION_", done.GetResolution()))
		})
	})
	cmd.Flags().StringVar(&found, "found", "", "signed, not-signed or undetermined")
	cmd.Flags().StringVar(&note, "note", "", "how it was found out; no personal data")
	return cmd
}

// ownTenant is the name of the tenant that is worked for.
func (c *cli) ownTenant() (string, error) {
	company, err := c.within("companies", "-")
	return strings.TrimSuffix(company, "/companies/-"), err
}
