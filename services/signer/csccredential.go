package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

const (
	cscLogo       = "logo.png"
	cscMultisign  = 500  // signatures of one authorization
	cscListed     = 1000 // credentials of one answer, which has no pages
	cscQualifier  = "eu_eidas_aes"
	authPIN       = "PIN"
	authOTP       = "OTP"
	formsCAdES    = "C"
	formsXAdES    = "X"
	formsPAdES    = "P"
	levelB        = "AdES-B-B"
	levelT        = "AdES-B-T"
	statusEnabled = "enabled"
)

// info says what is offered, and nothing else. spec: CSC-2.0.0.2 §11.1
func (c *cscCall) info(_ context.Context, req *csc2.InfoRequest) (*csc2.InfoResponse, error) {
	s := c.service
	cfg := s.cfg.CSC
	resp := &csc2.InfoResponse{
		Specs: csc2.Specs, Name: cfg.Name, Logo: cfg.URL + "/" + cscLogo, Region: cfg.Region, Lang: languageOf(req.Lang), Description: cfg.Description,
		AuthType: []string{"external"}, Methods: slices.Sorted(maps.Keys(s.cscMethods())),
		SignAlgorithms: csc2.Algorithms{Algos: []string{csc.SHA256WithRSA, csc.RSA, csc.ECDSASHA256}},
		SignatureFormats: csc2.Formats{
			Formats:   []string{formsCAdES, formsXAdES, formsPAdES},
			Envelopes: [][]string{{"Attached", "Detached", "Parallel"}, {"Enveloped"}, {"Certification", "Revision"}},
		},
		ConformanceLevels: []string{levelB},
	}
	if cfg.OAuth2Issuer != "" {
		resp.AuthType, resp.OAuth2Issuer = append(resp.AuthType, "oauth2code", "oauth2client"), cfg.OAuth2Issuer
	}
	if len(s.stamps) > 0 {
		resp.ConformanceLevels = append(resp.ConformanceLevels, levelT)
	}
	return resp, nil
}

// languageOf chooses between the two that there are. spec: RFC5646 §2.1
func languageOf(asked string) string {
	if strings.EqualFold(asked, "it") || strings.HasPrefix(strings.ToLower(asked), "it-") {
		return "it-IT"
	}
	return "en-US"
}

// offered is a credential of a person, with the one that has its place, if there is one.
type offered struct {
	db.ListPersonalRow
	next *db.Credential
}

// personal reads credentials of the caller's tenant: one, or those of a holder, or all.
func (c *cscCall) personal(ctx context.Context, id *uuid.UUID, holder string) ([]offered, error) {
	var rows []offered
	err := c.service.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(c.service.now())
		list, err := q.ListPersonal(ctx, db.ListPersonalParams{TenantID: c.caller.Tenant, ID: id, Holder: holder, At: now, Page: cscListed + 1})
		if err != nil {
			return err
		}
		rows = make([]offered, len(list))
		for i, row := range list {
			rows[i].ListPersonalRow = row
			if !row.Succeeded {
				continue
			}
			if rows[i].next, err = successor(ctx, q, row.Credential.ID, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("signer: read credentials: %w", err)
	}
	return rows, nil
}

// one reads the credential that a request names.
func (c *cscCall) one(ctx context.Context, credentialID string) (offered, error) {
	id, err := uuid.Parse(credentialID)
	if err != nil || id.String() != credentialID {
		return offered{}, csc.InvalidParameter("credentialID")
	}
	rows, err := c.personal(ctx, &id, "")
	if err == nil && len(rows) == 0 {
		err = csc.InvalidParameter("credentialID")
	}
	if err != nil {
		return offered{}, err
	}
	return rows[0], nil
}

// list names the credentials of the tenant's persons, or of one holder. spec: CSC-2.0.0.2 §11.4
func (c *cscCall) list(ctx context.Context, req *csc2.ListRequest) (*csc2.ListResponse, error) {
	holder := ""
	if req.UserID != "" {
		if strings.ContainsAny(req.UserID, "/") || len(req.UserID) > 64 {
			return nil, csc.InvalidParameter("userID")
		}
		holder = "tenants/" + c.caller.Tenant + "/users/" + req.UserID
	}
	rows, err := c.personal(ctx, nil, holder)
	if err != nil {
		return nil, err
	}
	if len(rows) > cscListed {
		return nil, csc.Invalid("There are more than %d credentials: name a userID", cscListed)
	}
	resp := &csc2.ListResponse{CredentialIDs: []string{}, OnlyValid: req.OnlyValid}
	for _, row := range rows {
		one, err := c.describe(row, req.Detail)
		if err != nil {
			return nil, err
		}
		if req.OnlyValid && (one.Key.Status != statusEnabled || one.Cert.Status != "valid") {
			continue
		}
		resp.CredentialIDs = append(resp.CredentialIDs, one.CredentialID)
		if req.CredentialInfo {
			if !req.AuthInfo {
				one.Auth = &csc2.Auth{Mode: "explicit"}
			}
			resp.CredentialInfos = append(resp.CredentialInfos, one)
		}
	}
	return resp, nil
}

// credential describes one credential. spec: CSC-2.0.0.2 §11.5
func (c *cscCall) credential(ctx context.Context, req *csc2.CredentialRequest) (*csc2.CredentialInfo, error) {
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	one, err := c.describe(row, req.Detail)
	if err != nil {
		return nil, err
	}
	one.CredentialID = ""
	if !req.AuthInfo {
		one.Auth = &csc2.Auth{Mode: "explicit"}
	}
	return &one, nil
}

// describe says what a credential is. The key of one whose place another has taken signs nothing more, although its certificate is
// still valid: it is disabled, and the description, which is all that the API has for it, names the other.
func (c *cscCall) describe(row offered, d csc2.Detail) (csc2.CredentialInfo, error) {
	cred, now := row.Credential, c.service.now()
	leaf, err := x509.ParseCertificate(cred.Chain[0])
	if err != nil {
		return csc2.CredentialInfo{}, fmt.Errorf("signer: certificate of %s: %w", nameOfCredential(cred), err)
	}
	out := csc2.CredentialInfo{
		CredentialID: cred.ID.String(), Description: cred.CommonName, SignatureQualifier: cscQualifier,
		Key: keyOf(leaf), SCAL: "2", Multisign: cscMultisign, Lang: languageOf(d.Lang),
	}
	objects := authObjects(row.DeviceType, out.Lang)
	switch {
	case row.next != nil:
		out.Description = succession(cred, *row.next, out.Lang)
	case cred.State == "ACTIVE" && row.Holder != "" && objects != nil:
		out.Key.Status = statusEnabled
	}
	switch {
	case cred.State == "REVOKED":
		out.Cert.Status = "revoked"
	case now.After(leaf.NotAfter):
		out.Cert.Status = "expired"
	default:
		out.Cert.Status = "valid"
	}
	switch d.Certificates {
	case "none":
	case "chain":
		out.Cert.Certificates = cred.Chain
	default:
		out.Cert.Certificates = cred.Chain[:1]
	}
	if d.CertInfo {
		out.Cert.IssuerDN, out.Cert.SubjectDN = leaf.Issuer.String(), leaf.Subject.String()
		out.Cert.SerialNumber = fmt.Sprintf("%X", leaf.SerialNumber)
		out.Cert.ValidFrom, out.Cert.ValidTo = csc.Time(leaf.NotBefore), csc.Time(leaf.NotAfter)
	}
	out.Auth = &csc2.Auth{Mode: "explicit", Expression: authPIN + " AND " + authOTP, Objects: objects}
	return out, nil
}

// cscDescription is how many characters a description has at most. spec: CSC-2.0.0.2 §11.4
const cscDescription = 255

// succession says of a credential which other has its place: by its credentialID, or by its whole name where this API does not
// offer it, its key being at a provider.
func succession(cred, next db.Credential, lang string) string {
	name, text := next.ID.String(), "; the credential %s has taken its place"
	if lang == "it-IT" {
		text = "; al suo posto c'è la credenziale %s"
	}
	if next.Provider != "" {
		name = nameOfCredential(next)
	}
	text = fmt.Sprintf(text, name)
	whose := []rune(cred.CommonName)
	return string(whose[:max(0, min(len(whose), cscDescription-len([]rune(text))))]) + text
}

func keyOf(leaf *x509.Certificate) csc2.Key {
	k := csc2.Key{Status: "disabled"}
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		k.Algo, k.Len = []string{csc.SHA256WithRSA, csc.RSA}, public.N.BitLen()
	case *ecdsa.PublicKey:
		k.Algo, k.Len, k.Curve = []string{csc.ECDSASHA256}, public.Params().BitSize, csc.P256
	}
	return k
}

// authObjects are what the holder of a device shows; nil for a device that this API cannot ask.
// spec: CSC-2.0.0.2 §8.3.1
func authObjects(device, lang string) []csc2.AuthObject {
	italian := lang == "it-IT"
	text := func(en, it string) string {
		if italian {
			return it
		}
		return en
	}
	pin := csc2.AuthObject{Type: "Password", ID: authPIN, Format: "N", Label: "PIN", Description: text("PIN of the signature, 8 digits", "PIN della firma, 8 cifre")}
	otp := csc2.AuthObject{ID: authOTP, Format: "N", Label: text("One-time password", "Codice usa e getta")}
	switch device {
	case "TOTP":
		otp.Type, otp.Generator = "Password", "totp"
		otp.Description = text("The code that your app shows", "Il codice mostrato dalla tua app")
	case "TOKEN":
		otp.Type, otp.Description = "Password", text("The code that your token shows", "Il codice mostrato dal tuo token")
	case "SMS":
		otp.Type, otp.Description = "ChallengeResponse", text("The code in the text message", "Il codice ricevuto per SMS")
	case "EMAIL":
		otp.Type, otp.Description = "ChallengeResponse", text("The code in the e-mail", "Il codice ricevuto per e-mail")
	case devicePush:
		otp.Type, otp.Format, otp.Label = "ChallengeResponseOOB", "", text("Approval in the app", "Approvazione nell'app")
		otp.Description = text("Type the number that you see into your app, and approve there", "Inserisci nella tua app il numero che vedi e approva")
	default:
		return nil
	}
	return []csc2.AuthObject{pin, otp}
}

// serveLogo serves a seal of wax, which info has to name. spec: CSC-2.0.0.2 §11.1 logo
func serveLogo(w http.ResponseWriter, _ *http.Request) {
	const size = 64
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			dx, dy := 2*x-size+1, 2*y-size+1
			switch d := dx*dx + dy*dy; {
			case d < 38*38:
				img.Set(x, y, color.RGBA{0x8e, 0x1b, 0x1b, 0xff})
			case d < 60*60:
				img.Set(x, y, color.RGBA{0xb5, 0x2a, 0x2a, 0xff})
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		http.Error(w, "no logo", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(b.Bytes()) // a caller that is gone is told nothing
}
