package main

import (
	"context"
	"encoding/pem"
	"fmt"

	"google.golang.org/grpc"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/sandbox/client"
)

// Names that development and demo use.
const (
	resellerID     = "demo-reseller"
	tenantID       = "demo"
	companyID      = "rossi"
	tenantName     = "tenants/" + tenantID
	companyName    = tenantName + "/companies/" + companyID
	platformTenant = "tenants/platform"
	archiveCompany = platformTenant + "/companies/archive"

	// A company whose check digit is right and that belongs to nobody.
	companyVAT = "IT01234567897"
)

// customer is a tenant that was onboarded, and how to call as one.
type customer struct {
	key  string // of the tenant; empty when it existed already
	conn *grpc.ClientConn
}

// dial connects with an API key.
func (w *world) dial(ctx context.Context, key string) (*grpc.ClientConn, error) {
	tls, err := rpc.ClientTLS(w.certs, "", "localhost")
	if err != nil {
		return nil, err
	}
	return rpc.Dial(ctx, rpc.DialConfig{
		Address: w.ports["rpc"], TLS: tls, Agent: "ceralacca-dev",
		Bearer: func(context.Context) (string, error) { return key, nil },
	})
}

// onboard makes a reseller, a tenant with a company that signs with a key in Vault, and the role
// credential with which the archive signs its packages. Doing it again changes nothing.
func (w *world) onboard(ctx context.Context, keyType signv1.KeyType) (*customer, error) {
	operator, err := w.dial(ctx, w.key)
	if err != nil {
		return nil, err
	}
	defer operator.Close()
	tenancy := tenancyv1.NewTenancyServiceClient(operator)
	err = makeTenants(ctx, tenancy)
	if err != nil {
		return nil, err
	}
	for parent, kind := range map[string]signv1.CredentialKind{
		companyName:    signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC,
		archiveCompany: signv1.CredentialKind_CREDENTIAL_KIND_ROLE,
	} {
		err = w.certify(ctx, signv1.NewSignServiceClient(operator), parent, kind, keyType)
		if err != nil {
			return nil, err
		}
	}
	key, err := keepSecret(w.path("secrets", "tenant.key"), func() (string, error) {
		made, err := tenancy.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{
			Parent: tenantName, ApiKey: &tenancyv1.ApiKey{DisplayName: "first key", Scopes: []string{"*"}},
		})
		return made.GetSecret(), err
	})
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", tenantName, err)
	}
	conn, err := w.dial(ctx, key)
	return &customer{key: key, conn: conn}, err
}

func makeTenants(ctx context.Context, tenancy tenancyv1.TenancyServiceClient) error {
	_, err := tenancy.CreateReseller(ctx, &tenancyv1.CreateResellerRequest{
		ResellerId: resellerID, Reseller: &tenancyv1.Reseller{DisplayName: "Demo Reseller"},
	})
	err = existing(err)
	for _, t := range []struct{ id, name string }{{tenantID, "Officine Rossi (demo)"}, {"platform", "The platform itself"}} {
		if err == nil {
			_, err = tenancy.CreateTenant(ctx, &tenancyv1.CreateTenantRequest{
				TenantId: t.id, Tenant: &tenancyv1.Tenant{Reseller: "resellers/" + resellerID, DisplayName: t.name},
			})
			err = existing(err)
		}
	}
	for _, c := range []struct{ parent, id, name, vat string }{
		{tenantName, companyID, "Officine Rossi S.r.l.", companyVAT},
		{platformTenant, "archive", "Conservation", transmitter},
	} {
		if err == nil {
			_, err = tenancy.CreateCompany(ctx, &tenancyv1.CreateCompanyRequest{
				Parent: c.parent, CompanyId: c.id, Company: &tenancyv1.Company{
					DisplayName: c.name, VatNumber: c.vat, SignaturePolicy: tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS,
				},
			})
			err = existing(err)
		}
	}
	if err != nil {
		return fmt.Errorf("onboarding: %w", err)
	}
	return nil
}

// existing forgives that something is there already.
func existing(err error) error {
	if err != nil && fault.Of(err).Kind == fault.KindConflict {
		return nil
	}
	return err
}

// certify makes a key in Vault, has the sandbox authority certify it, and imports the certificate.
func (w *world) certify(ctx context.Context, sign signv1.SignServiceClient, parent string, kind signv1.CredentialKind, keyType signv1.KeyType) error {
	list, err := sign.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: parent})
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", parent, err)
	}
	for _, c := range list.GetCredentials() {
		if c.GetState() == signv1.CredentialState_CREDENTIAL_STATE_ACTIVE && c.GetKeyType() == keyType && c.GetKind() == kind {
			return nil
		}
	}
	credential, err := sign.CreateCredential(ctx, &signv1.CreateCredentialRequest{
		Parent: parent, Credential: &signv1.Credential{Kind: kind, KeyType: keyType, CommonName: "SANDBOX " + parent[len("tenants/"):]},
	})
	if err != nil {
		return fmt.Errorf("credential for %s: %w", parent, err)
	}
	profile := "signing"
	if kind == signv1.CredentialKind_CREDENTIAL_KIND_ROLE {
		profile = "role"
	}
	request, _ := pem.Decode([]byte(credential.GetCsrPem()))
	if request == nil {
		return fmt.Errorf("credential %s came without a certificate request", credential.GetName())
	}
	issued, err := client.New(w.sdi.ControlURL).SignCSR(ctx, request.Bytes, profile)
	if err != nil {
		return fmt.Errorf("certificate for %s: %w", parent, err)
	}
	_, err = sign.ImportCertificate(ctx, &signv1.ImportCertificateRequest{
		Name: credential.GetName(), CertificatePem: issued.CertPEM + issued.CAPEM,
	})
	if err != nil {
		return fmt.Errorf("import certificate of %s: %w", credential.GetName(), err)
	}
	return nil
}

// subscribe asks for webhooks at url and for mail.
func (c *customer) subscribe(ctx context.Context, url, mail string) (secret string, err error) {
	notifications := notificationv1.NewNotificationServiceClient(c.conn)
	endpoint, err := notifications.CreateWebhookEndpoint(ctx, &notificationv1.CreateWebhookEndpointRequest{
		Parent: tenantName, WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: url},
	})
	if err != nil {
		return "", fmt.Errorf("webhook: %w", err)
	}
	_, err = notifications.CreateEmailSubscription(ctx, &notificationv1.CreateEmailSubscriptionRequest{
		Parent: tenantName, EmailSubscription: &notificationv1.EmailSubscription{
			Address: mail, Language: "it", EventTypes: []string{"invoice.delivered", "invoice.rejected"},
		},
	})
	if err != nil {
		return "", fmt.Errorf("mail: %w", err)
	}
	return endpoint.GetSecret(), nil
}
