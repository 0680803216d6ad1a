package signer

import (
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
)

// cut splits a resource name into the ids between its collections, for example
// cut("tenants/a/companies/b", "tenants", "companies") = a, b.
func cut(name string, collections ...string) ([]string, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 2*len(collections) {
		return nil, false
	}
	ids := make([]string, len(collections))
	for i, c := range collections {
		if parts[2*i] != c || parts[2*i+1] == "" {
			return nil, false
		}
		ids[i] = parts[2*i+1]
	}
	return ids, true
}

// credentialName is a parsed tenants/{tenant}/companies/{company}/credentials/{credential}.
// SignBlob takes - for the credential: whichever of the company is valid now (id is then zero).
type credentialName struct {
	tenant, company string
	id              uuid.UUID
}

func parseCredentialName(field, name string) (credentialName, error) {
	ids, ok := cut(name, "tenants", "companies", "credentials")
	if !ok {
		return credentialName{}, fault.Invalid("NAME_INVALID", "%s: %q is not tenants/{tenant}/companies/{company}/credentials/{credential}", field, name).
			WithField(field, "NAME_INVALID", "not the name of a credential")
	}
	if ids[2] == "-" && field == "credential" {
		return credentialName{tenant: ids[0], company: ids[1]}, nil
	}
	id, err := uuid.Parse(ids[2])
	if err != nil {
		return credentialName{}, noCredential(name)
	}
	return credentialName{tenant: ids[0], company: ids[1], id: id}, nil
}

func noCredential(name string) error {
	return fault.NotFound("CREDENTIAL_NOT_FOUND", "there is no credential %s", name)
}

func nameOfCredential(c db.Credential) string {
	return "tenants/" + c.TenantID + "/companies/" + c.CompanyID + "/credentials/" + c.ID.String()
}

func nameOfSignature(s db.Signature) string {
	return "tenants/" + s.TenantID + "/signatures/" + s.ID.String()
}

func credentialMessage(c db.Credential) *signv1.Credential {
	m := &signv1.Credential{
		Name:           nameOfCredential(c),
		Kind:           signv1.CredentialKind(signv1.CredentialKind_value["CREDENTIAL_KIND_"+c.Kind]),
		KeyType:        signv1.KeyType(signv1.KeyType_value["KEY_TYPE_"+c.KeyType]),
		CommonName:     c.CommonName,
		State:          signv1.CredentialState(signv1.CredentialState_value["CREDENTIAL_STATE_"+c.State]),
		Level:          levelOf(c.Qualified),
		Provider:       c.Provider,
		CsrPem:         c.CsrPem,
		CertificatePem: encodePEM("CERTIFICATE", c.Chain...),
		CreateTime:     timestamppb.New(c.CreatedAt),
		Etag:           strconv.Itoa(int(c.Version)),
	}
	if c.NotAfter != nil {
		m.ExpireTime = timestamppb.New(*c.NotAfter)
	}
	return m
}

func signatureMessage(s db.Signature, qualified bool) *signv1.Signature {
	m := &signv1.Signature{
		Name:       nameOfSignature(s),
		Subject:    s.Subject,
		Credential: s.Credential,
		State:      signv1.SignatureState(signv1.SignatureState_value["SIGNATURE_STATE_"+s.State]),
		Level:      levelOf(qualified),
		Original:   blobMessage(originalRef(s), s.OriginalType),
		CreateTime: timestamppb.New(s.CreatedAt),
		Failure:    s.Failure,
	}
	if s.FailureCode != "" {
		m.Failure = s.FailureCode + ": " + s.Failure
	}
	if s.State == "DONE" {
		m.Signed = blobMessage(refOf(s.TenantID, s.SignedSha256, *s.SignedSize), mimeSigned)
		m.SigningTime = timestamppb.New(*s.SigningTime)
	}
	return m
}

// partsOf is the name of a credential in its parts.
func partsOf(c db.Credential) credentialName {
	return credentialName{tenant: c.TenantID, company: c.CompanyID, id: c.ID}
}

func refOf(tenant string, sum []byte, size int64) blob.Ref {
	ref := blob.Ref{Tenant: tenant, Size: size}
	copy(ref.SHA256[:], sum)
	return ref
}

func originalRef(s db.Signature) blob.Ref { return refOf(s.TenantID, s.OriginalSha256, s.OriginalSize) }

func blobMessage(ref blob.Ref, mediaType string) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType}
}

// refFrom reads a reference of an event or request; it must be one of tenant's own.
func refFrom(tenant, field string, b *eventv1.Blob) (blob.Ref, error) {
	ref, err := blob.ParseURI(b.GetUri())
	if err != nil {
		return blob.Ref{}, err
	}
	if ref.Tenant != tenant {
		return blob.Ref{}, fault.Denied("FOREIGN_BLOB", "%s: the document belongs to another tenant", field)
	}
	if string(ref.SHA256[:]) != string(b.GetSha256()) || ref.Size != b.GetSize() {
		return blob.Ref{}, fault.Invalid("BLOB_MISMATCH", "%s: uri, sha256 and size do not name the same bytes", field).
			WithField(field, "BLOB_MISMATCH", "uri, sha256 and size differ")
	}
	return ref, nil
}
