package harness

import (
	"context"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// Customer is a tenant with one company, and the way to call as it.
type Customer struct {
	Platform *Platform
	Key      string
	Tenant   string // tenants/{tenant}
	Company  string // tenants/{tenant}/companies/{company}
	VAT      string // without country

	Tenancy      tenancyv1.TenancyServiceClient
	Invoices     invoicev1.InvoiceServiceClient
	Sign         signv1.SignServiceClient
	SdI          sdiv1.SdiServiceClient
	Archive      conservationv1.ConservationServiceClient
	Notification notificationv1.NotificationServiceClient
}

// archiveCompany is where the configuration files say that the role credential of conservation is.
const (
	platformTenant = "tenants/platform"
	archiveCompany = platformTenant + "/companies/archive"
)

// Prepare makes what every deployment has once: a reseller, and the credential of the archive.
func (p *Platform) Prepare(ctx context.Context) error {
	operator := As(ctx, p.OperatorKey)
	conn, err := p.Conn("tenancy")
	if err != nil {
		return err
	}
	tenancy := tenancyv1.NewTenancyServiceClient(conn)
	_, err = tenancy.CreateReseller(operator, &tenancyv1.CreateResellerRequest{ResellerId: "partner", Reseller: &tenancyv1.Reseller{DisplayName: "Partner"}})
	if err != nil {
		return fmt.Errorf("reseller: %w", err)
	}
	_, err = tenancy.CreateTenant(operator, &tenancyv1.CreateTenantRequest{
		TenantId: "platform", Tenant: &tenancyv1.Tenant{Reseller: "resellers/partner", DisplayName: "Platform"},
	})
	if err != nil {
		return fmt.Errorf("platform tenant: %w", err)
	}
	_, err = tenancy.CreateCompany(operator, &tenancyv1.CreateCompanyRequest{
		Parent: platformTenant, CompanyId: "archive",
		Company: &tenancyv1.Company{DisplayName: "Archive", VatNumber: "IT" + fatturapatest.VATNumber(1), SignaturePolicy: tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS},
	})
	if err != nil {
		return fmt.Errorf("archive company: %w", err)
	}
	return p.certify(operator, archiveCompany, signv1.CredentialKind_CREDENTIAL_KIND_ROLE, "role")
}

// Onboard makes the scenario's n-th customer: tenant, company that signs everything, credential, key.
func (p *Platform) Onboard(ctx context.Context, n int) (*Customer, error) {
	c := &Customer{Platform: p, Tenant: fmt.Sprintf("tenants/customer-%d", p.Number(n)), VAT: p.VAT(n)}
	c.Company = c.Tenant + "/companies/main"
	err := c.connect()
	if err != nil {
		return nil, err
	}
	operator := As(ctx, p.OperatorKey)
	_, err = c.Tenancy.CreateTenant(operator, &tenancyv1.CreateTenantRequest{
		TenantId: c.Tenant[len("tenants/"):], Tenant: &tenancyv1.Tenant{Reseller: "resellers/partner", DisplayName: "Customer"},
	})
	if err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	_, err = c.Tenancy.CreateCompany(operator, &tenancyv1.CreateCompanyRequest{
		Parent: c.Tenant, CompanyId: "main",
		Company: &tenancyv1.Company{DisplayName: "Main", VatNumber: "IT" + c.VAT, SignaturePolicy: tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS},
	})
	if err != nil {
		return nil, fmt.Errorf("company: %w", err)
	}
	err = p.certify(operator, c.Company, signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC, "signing")
	if err != nil {
		return nil, err
	}
	key, err := c.Tenancy.CreateApiKey(operator, &tenancyv1.CreateApiKeyRequest{
		Parent: c.Tenant, ApiKey: &tenancyv1.ApiKey{DisplayName: "test", Scopes: []string{"*"}},
	})
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	c.Key = key.GetSecret()
	return c, nil
}

// VAT is the number of the scenario's n-th customer, without country.
func (p *Platform) VAT(n int) string { return fatturapatest.VATNumber(1000 + p.Number(n)) }

func (c *Customer) connect() error {
	conns := map[string]*grpc.ClientConn{}
	for _, target := range Targets {
		conn, err := c.Platform.Conn(target)
		if err != nil {
			return err
		}
		conns[target] = conn
	}
	c.Tenancy = tenancyv1.NewTenancyServiceClient(conns["tenancy"])
	c.Invoices = invoicev1.NewInvoiceServiceClient(conns["invoice"])
	c.Sign = signv1.NewSignServiceClient(conns["signer"])
	c.SdI = sdiv1.NewSdiServiceClient(conns["sdi-gateway"])
	c.Archive = conservationv1.NewConservationServiceClient(conns["conservation"])
	c.Notification = notificationv1.NewNotificationServiceClient(conns["notification"])
	return nil
}

// Ctx calls as the customer.
func (c *Customer) Ctx(ctx context.Context) context.Context { return As(ctx, c.Key) }

func (p *Platform) certify(operator context.Context, company string, kind signv1.CredentialKind, profile string) error {
	conn, err := p.Conn("signer")
	if err != nil {
		return err
	}
	sign := signv1.NewSignServiceClient(conn)
	keyType := signv1.KeyType_KEY_TYPE_EC_P256
	if p.RSA {
		keyType = signv1.KeyType_KEY_TYPE_RSA_3072
	}
	credential, err := sign.CreateCredential(operator, &signv1.CreateCredentialRequest{
		Parent: company, Credential: &signv1.Credential{Kind: kind, KeyType: keyType, CommonName: "SANDBOX signer"},
	})
	if err != nil {
		return fmt.Errorf("credential of %s: %w", company, err)
	}
	request, _ := pem.Decode([]byte(credential.GetCsrPem()))
	if request == nil {
		return fmt.Errorf("credential %s has no certificate request", credential.GetName())
	}
	issued, err := p.Sandbox.SignCSR(operator, request.Bytes, profile)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", company, err)
	}
	_, err = sign.ImportCertificate(operator, &signv1.ImportCertificateRequest{Name: credential.GetName(), CertificatePem: issued.CertPEM + issued.CAPEM})
	if err != nil {
		return fmt.Errorf("import certificate of %s: %w", company, err)
	}
	return nil
}

// XML writes a valid invoice of the customer.
func (c *Customer) XML(format, code, number string) []byte {
	return fatturapatest.Invoice(fatturapatest.Options{
		Formato: format, CodiceDestinatario: code, Numero: number, Data: time.Now().Format(time.DateOnly),
		Cedente: fatturapatest.Party{Paese: "IT", Codice: c.VAT, Denominazione: "Customer"},
	})
}

// Submit creates an invoice and returns its name. A call that the platform could not answer is repeated
// with the same request id, as the documentation tells clients to.
func (c *Customer) Submit(ctx context.Context, format, code, number string) (string, error) {
	req := &invoicev1.CreateInvoiceRequest{Parent: c.Company, Content: c.XML(format, code, number), RequestId: uuid.NewString()}
	for {
		made, err := c.Invoices.CreateInvoice(c.Ctx(ctx), req)
		if err == nil {
			return made.GetName(), nil
		}
		if !Again(err) || ctx.Err() != nil {
			return "", fmt.Errorf("create invoice %s: %w", number, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Operations is the operators' API of the process that hosts a target.
func (p *Platform) Operations(target string) (operationsv1.OperationsServiceClient, error) {
	conn, err := p.Conn(target)
	if err != nil {
		return nil, err
	}
	return operationsv1.NewOperationsServiceClient(conn), nil
}
