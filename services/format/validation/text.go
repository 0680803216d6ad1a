package validation

// Text is one sentence in both languages.
type Text struct{ IT, EN string }

var texts = map[Sub]Text{
	FormatFailure:          {"La firma o il file non è nella forma che la norma prescrive", "The signature or the file is not in the form that the standard wants"},
	HashFailure:            {"Il contenuto non è quello che è stato firmato", "The content is not what was signed"},
	SigCryptoFailure:       {"Il valore della firma non corrisponde alla chiave del certificato", "The signature value does not verify with the certificate's key"},
	Revoked:                {"Il certificato era già revocato al momento della firma", "The certificate was revoked before the signature was made"},
	Expired:                {"Il certificato era già scaduto al momento della firma", "The certificate had expired before the signature was made"},
	NotYetValid:            {"La firma è anteriore alla validità del certificato", "The signature is older than the certificate's validity"},
	SigConstraints:         {"La firma non copre tutto il documento, o non è certo che lo faccia", "The signature does not cover the whole document, or not for certain"},
	ChainConstraints:       {"Il certificato non è fatto per firmare", "The certificate is not for signing"},
	ChainGeneral:           {"La catena dei certificati non è regolare", "The chain of certificates does not hold"},
	CryptoConstraints:      {"Un algoritmo non è ammesso", "An algorithm is not accepted"},
	CryptoConstraintsNoPOE: {"Un algoritmo non è più affidabile e nulla prova che la firma sia anteriore", "An algorithm is no longer relied on, and nothing proves that the signature is older"},
	NoSigningCertificate:   {"Il certificato di chi ha firmato non è nel file, o non è quello indicato", "The signer's certificate is not in the file, or is not the one that is named"},
	NoChain:                {"Nessuna catena porta a un'autorità riconosciuta", "No chain leads to an authority that is trusted"},
	RevokedNoPOE:           {"Il certificato è revocato e nulla prova che la firma sia anteriore", "The certificate is revoked, and nothing proves that the signature is older"},
	RevokedCANoPOE:         {"Il certificato di un'autorità è revocato e nulla prova che la firma sia anteriore", "An authority's certificate is revoked, and nothing proves that the signature is older"},
	OutOfBoundsNoPOE:       {"Il certificato è scaduto, o non ancora valido, e nulla prova quando fu fatta la firma", "The certificate has expired, or is not valid yet, and nothing proves when the signature was made"},
	OutOfBoundsNotRevoked:  {"Il certificato è scaduto senza revoca e nulla prova quando fu fatta la firma", "The certificate expired without revocation, and nothing proves when the signature was made"},
	TryLater:               {"Mancano notizie sulla revoca: riprovare con CRL o risposte OCSP", "Revocation data is missing: try again with CRLs or OCSP responses"},
	SignedDataNotFound:     {"Manca il contenuto firmato", "What was signed is missing"},
	Generic:                {"La firma usa qualcosa che non si sa giudicare", "The signature uses something that cannot be judged here"},
	TimestampOrder:         {"La marca temporale è posteriore al momento del giudizio", "The time-stamp is from after the time of judgement"},
}

// Text is the sentence for the conclusion.
func (c Conclusion) Text() Text {
	if c.Verdict == Passed {
		return Text{"Tutto ciò che va controllato è stato controllato e vale", "All that has to be checked was checked, and holds"}
	}
	return texts[c.Sub]
}

// Word is the verdict in both languages.
func (v Verdict) Word() Text {
	switch v {
	case Passed:
		return Text{"valida (total-passed)", "total-passed"}
	case Failed:
		return Text{"non valida (total-failed)", "total-failed"}
	}
	return Text{"indeterminata (indeterminate)", "indeterminate"}
}
