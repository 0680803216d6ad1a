package csc2

import (
	"slices"

	"ceralacca.dev/services/format/csc"
)

// ReadInfo reads a request of info.
func ReadInfo(r *csc.Reader) (*InfoRequest, error) {
	req := &InfoRequest{Lang: r.Optional("lang", maxName)}
	return req, r.Err()
}

func readDetail(r *csc.Reader) Detail {
	d := Detail{Certificates: r.Optional("certificates", maxName), CertInfo: r.Bool("certInfo"), AuthInfo: r.Bool("authInfo")}
	if !slices.Contains([]string{"", "none", "single", "chain"}, d.Certificates) {
		r.Fail(csc.InvalidParameter("certificates"))
	}
	d.Lang, d.ClientData = r.Optional("lang", maxName), r.Optional("clientData", maxClientData)
	return d
}

// ReadList reads a request of credentials/list.
func ReadList(r *csc.Reader) (*ListRequest, error) {
	req := &ListRequest{
		UserID: r.Optional("userID", maxName), CredentialInfo: r.Bool("credentialInfo"), OnlyValid: r.Bool("onlyValid"), Detail: readDetail(r),
	}
	return req, r.Err()
}

// ReadCredential reads a request of credentials/info.
func ReadCredential(r *csc.Reader) (*CredentialRequest, error) {
	req := &CredentialRequest{CredentialID: r.String("credentialID"), Detail: readDetail(r)}
	return req, r.Err()
}

// hashes reads digests and the algorithm that made them, which has to be said with them.
// spec: CSC-2.0.0.2 §14.1
func hashes(r *csc.Reader, required bool) ([][]byte, string) {
	if !required && !r.Has("hashes") {
		return nil, ""
	}
	oid := r.String("hashAlgorithmOID")
	size := HashSize(oid)
	if size == 0 {
		r.Fail(csc.InvalidParameter("hashAlgorithmOID"))
	}
	return r.Hashes("hashes", required, size), oid
}

// ReadAuthorize reads a request of credentials/authorize.
func ReadAuthorize(r *csc.Reader) (*AuthorizeRequest, error) {
	req := &AuthorizeRequest{CredentialID: r.String("credentialID"), NumSignatures: r.Int("numSignatures")}
	if req.NumSignatures < 1 {
		r.Fail(csc.Invalid("Invalid value for parameter numSignatures"))
	}
	req.Hashes, req.HashAlgorithm = hashes(r, false)
	for _, one := range r.Objects("authData", csc.InvalidParameter("authData")) {
		v := AuthValue{ID: one.String("id"), Value: one.Optional("value", maxSecret)}
		if one.Err() != nil || slices.ContainsFunc(req.AuthData, func(o AuthValue) bool { return o.ID == v.ID }) {
			r.Fail(csc.InvalidParameter("authData"))
		}
		req.AuthData = append(req.AuthData, v)
	}
	req.Description, req.ClientData = r.Optional("description", maxDescription), r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// ReadCheck reads a request of credentials/authorizeCheck.
func ReadCheck(r *csc.Reader) (*CheckRequest, error) {
	req := &CheckRequest{Handle: r.String("handle")}
	return req, r.Err()
}

// ReadChallenge reads a request of credentials/getChallenge.
func ReadChallenge(r *csc.Reader) (*ChallengeRequest, error) {
	req := &ChallengeRequest{CredentialID: r.String("credentialID"), AuthObjectID: r.String("authObjectID")}
	readBound(r, req)
	return req, r.Err()
}

// ReadSendOTP reads a request of credentials/sendOTP, which has one kind of object only.
func ReadSendOTP(r *csc.Reader) (*ChallengeRequest, error) {
	req := &ChallengeRequest{CredentialID: r.String("credentialID")}
	readBound(r, req)
	return req, r.Err()
}

func readBound(r *csc.Reader, req *ChallengeRequest) {
	req.Hashes, req.HashAlgorithm = hashes(r, false)
	req.NumSignatures, req.ClientData = r.OptionalInt("numSignatures"), r.Optional("clientData", maxClientData)
	if req.NumSignatures < 0 {
		r.Fail(csc.Invalid("Invalid value for parameter numSignatures"))
	}
}

// ReadExtend reads a request of credentials/extendTransaction.
func ReadExtend(r *csc.Reader) (*ExtendRequest, error) {
	req := &ExtendRequest{CredentialID: r.String("credentialID"), SAD: r.String("SAD")}
	req.Hashes, req.HashAlgorithm = hashes(r, true)
	req.ClientData = r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// digest is the algorithm of the digests that a signature algorithm is for; "" when that has to be said.
func digest(signAlgo string) (string, bool) {
	switch signAlgo {
	case csc.SHA256WithRSA, csc.ECDSASHA256:
		return csc.SHA256, true
	case csc.RSA, csc.PSS:
		return "", true
	}
	return "", false
}

// algorithms reads a signature algorithm and the one of the digests, which the first may imply.
// spec: CSC-2.0.0.2 §11.10 hashAlgorithmOID
func algorithms(r *csc.Reader) (signAlgo, hashAlgo string, params []byte) {
	signAlgo, params = r.String("signAlgo"), r.Bytes("signAlgoParams")
	hashAlgo, known := digest(signAlgo)
	if !known {
		r.Fail(csc.InvalidParameter("signAlgo"))
	}
	if hashAlgo == "" {
		hashAlgo = r.String("hashAlgorithmOID")
	}
	if HashSize(hashAlgo) == 0 {
		r.Fail(csc.InvalidParameter("hashAlgorithmOID"))
	}
	return signAlgo, hashAlgo, params
}

// operation reads how the answer is wanted.
func operation(r *csc.Reader) string {
	mode := r.Optional("operationMode", maxName)
	if mode != "" && mode != "S" && mode != "A" {
		r.Fail(csc.InvalidParameter("operationMode"))
	}
	if n := r.OptionalInt("validity_period"); n < 0 {
		r.Fail(csc.Invalid("Out of bounds parameter validity_period"))
	}
	r.Optional("response_uri", maxClientData)
	return mode
}

// ReadSignHash reads a request of signatures/signHash.
func ReadSignHash(r *csc.Reader) (*SignHashRequest, error) {
	req := &SignHashRequest{SAD: r.String("SAD"), CredentialID: r.String("credentialID")}
	req.SignAlgo, req.HashAlgorithm, req.SignAlgoParams = algorithms(r)
	req.Hashes = r.Hashes("hashes", true, HashSize(req.HashAlgorithm))
	req.OperationMode, req.ClientData = operation(r), r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// ReadSignDoc reads a request of signatures/signDoc.
func ReadSignDoc(r *csc.Reader) (*SignDocRequest, error) {
	req := &SignDocRequest{
		SAD: r.String("SAD"), CredentialID: r.String("credentialID"), SignatureQualifier: r.Optional("signatureQualifier", maxName),
	}
	if r.Has("documents") && r.Has("documentDigests") {
		r.Fail(csc.Invalid("Both documentDigests and documents parameters passed"))
	}
	for _, one := range r.Objects("documentDigests", csc.Invalid("Invalid object parameter documentDigests")) {
		d := DocumentDigest{Form: readForm(one)}
		_, d.HashAlgorithm, _ = algorithms(one)
		if said := one.Optional("hashAlgorithmOID", maxName); said != "" && said != d.HashAlgorithm {
			one.Fail(csc.Invalid("String parameter hashAlgorithmOID contradicts with signAlgo parameter"))
		}
		d.Hashes = one.Hashes("hashes", true, HashSize(d.HashAlgorithm))
		r.Join(one)
		req.DocumentDigests = append(req.DocumentDigests, d)
	}
	for _, one := range r.Objects("documents", csc.Invalid("Invalid array parameter documents")) {
		d := Document{Document: one.Bytes("document"), Form: readForm(one)}
		if len(d.Document) == 0 {
			r.Fail(csc.Invalid("Invalid Base64 documents string parameter"))
		}
		r.Join(one)
		req.Documents = append(req.Documents, d)
	}
	if len(req.DocumentDigests)+len(req.Documents) == 0 {
		r.Fail(csc.Invalid("Empty documentDigests and documents objects"))
	}
	req.OperationMode, req.ClientData = operation(r), r.Optional("clientData", maxClientData)
	req.ReturnValidationInfo = r.Bool("returnValidationInfo")
	return req, r.Err()
}

func readForm(r *csc.Reader) Form {
	f := Form{Format: r.String("signature_format")}
	if !slices.Contains([]string{"C", "X", "P", "J"}, f.Format) {
		r.Fail(csc.InvalidParameter("signature_format"))
	}
	f.SignAlgo, f.SignAlgoParams = r.String("signAlgo"), r.Bytes("signAlgoParams")
	f.Level, f.Envelope = r.Optional("conformance_level", maxName), r.Optional("signed_envelope_property", maxName)
	for _, one := range r.Objects("signed_props", csc.InvalidParameter("signed_props")) {
		f.SignedProps = append(f.SignedProps, SignedProp{Name: one.String("attribute_name"), Value: one.Optional("attribute_value", 64<<10)})
		if one.Err() != nil {
			r.Fail(csc.InvalidParameter("signed_props"))
		}
	}
	return f
}

// ReadTimestamp reads a request of signatures/timestamp.
func ReadTimestamp(r *csc.Reader) (*TimestampRequest, error) {
	text := r.String("hash")
	req := &TimestampRequest{HashAlgo: r.String("hashAlgo")}
	var err error
	req.Hash, err = csc.Base64(text)
	size := HashSize(req.HashAlgo)
	switch {
	case size == 0:
		r.Fail(csc.InvalidParameter("hashAlgo"))
	case err != nil:
		r.Fail(csc.Invalid("Invalid Base64 hash string parameter"))
	case len(req.Hash) != size:
		r.Fail(csc.Invalid("Invalid digest value length"))
	}
	req.Nonce, req.ClientData = r.Optional("nonce", 64), r.Optional("clientData", maxClientData)
	for _, c := range req.Nonce {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			r.Fail(csc.InvalidParameter("nonce"))
		}
	}
	return req, r.Err()
}
