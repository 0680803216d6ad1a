package notification

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ceralacca.dev/services/notification/internal/db"
)

const (
	italian = "it"
	english = "en"
)

// phrase is what a type means, in a subject and a sentence.
type phrase struct{ subject, sentence string }

// phrases says each public type in both languages. A type without a phrase is named as it is.
var phrases = map[string]map[string]phrase{
	"invoice.accepted": {
		italian: {"Fattura presa in carico", "La fattura è stata accettata e sarà trasmessa al Sistema di Interscambio."},
		english: {"Invoice accepted", "The invoice was accepted and will be sent to the exchange system (SdI)."}},
	"invoice.imported": {
		italian: {"Fattura importata", "La fattura, emessa altrove, è stata acquisita per la sola conservazione."},
		english: {"Invoice imported", "The invoice, issued elsewhere, was taken in for preservation only."}},
	"inbound.received": {
		italian: {"Fattura ricevuta", "Il Sistema di Interscambio ha recapitato una fattura."},
		english: {"Invoice received", "The exchange system (SdI) has delivered an invoice to you."}},
	"inbound.outcome_taken": {
		italian: {"Esito acquisito", "Il Sistema di Interscambio ha preso in carico l'esito della fattura ricevuta."},
		english: {"Outcome taken", "The exchange system (SdI) has taken your answer to the invoice."}},
	"inbound.outcome_refused": {
		italian: {"Esito scartato", "Il Sistema di Interscambio non ha accettato l'esito della fattura ricevuta."},
		english: {"Outcome refused", "The exchange system (SdI) did not accept your answer to the invoice."}},
	"inbound.term_expired": {
		italian: {"Termini decorsi", "Il termine per accettare o rifiutare la fattura ricevuta è trascorso senza esito."},
		english: {"Term over", "The term to accept or refuse the invoice has passed without an answer."}},
	"inbound.taken_in_charge": {
		italian: {"Fattura ricevuta in conservazione", "La fattura ricevuta è stata presa in carico dalla conservazione."},
		english: {"Received invoice in custody", "The invoice that you received was taken in charge by the archive."}},
	"inbound.answer_due": {
		italian: {"Fattura ricevuta: il termine per rispondere si avvicina", "La fattura può essere accettata o rifiutata ancora per poco: i quindici giorni stanno per finire."},
		english: {"Received invoice: the term to answer is near", "The invoice may be accepted or refused only a little longer: the fifteen days are about to end."}},
	"inbound.answer_overdue": {
		italian: {"Fattura ricevuta: termine per rispondere scaduto", "I quindici giorni sono passati senza esito: la fattura non può più essere accettata né rifiutata attraverso il Sistema di Interscambio."},
		english: {"Received invoice: the term to answer has passed", "The fifteen days have passed without an outcome: the invoice can no longer be accepted or refused through the exchange system (SdI)."}},
	"inbound.preserved": {
		italian: {"Fattura ricevuta conservata", "Il pacchetto di archiviazione che contiene la fattura ricevuta è stato firmato e marcato."},
		english: {"Received invoice preserved", "The archival package that holds the invoice that you received was signed and time-stamped."}},
	"invoice.signed": {
		italian: {"Fattura firmata", "La fattura è stata firmata."},
		english: {"Invoice signed", "The invoice was signed."}},
	"invoice.signing_failed": {
		italian: {"Fattura non firmata", "La fattura non può essere firmata: occorre un intervento."},
		english: {"Invoice not signed", "The invoice cannot be signed: somebody has to act."}},
	"invoice.transmitted": {
		italian: {"Fattura trasmessa", "Il Sistema di Interscambio ha ricevuto la fattura."},
		english: {"Invoice transmitted", "The exchange system (SdI) has received the invoice."}},
	"invoice.transmission_failed": {
		italian: {"Fattura non trasmessa", "La fattura non può essere trasmessa: occorre un intervento."},
		english: {"Invoice not transmitted", "The invoice cannot be transmitted: somebody has to act."}},
	"invoice.delivered": {
		italian: {"Fattura consegnata", "La fattura è stata consegnata al destinatario."},
		english: {"Invoice delivered", "The invoice was delivered to the recipient."}},
	"invoice.available": {
		italian: {"Fattura emessa, non recapitata", "La fattura è emessa e si trova nell'area riservata del destinatario: avvisatelo."},
		english: {"Invoice issued, not delivered", "The invoice is issued and is available in the recipient's reserved area: please tell them."}},
	"invoice.delivery_pending": {
		italian: {"Fattura non ancora consegnata", "La consegna all'amministrazione non è riuscita; il Sistema di Interscambio riprova."},
		english: {"Invoice not delivered yet", "Delivery to the public body failed; the exchange system (SdI) goes on trying."}},
	"invoice.rejected": {
		italian: {"Fattura scartata", "Il Sistema di Interscambio ha scartato la fattura: non è emessa. Va corretta e inviata di nuovo."},
		english: {"Invoice rejected", "The exchange system (SdI) rejected the invoice: it is not issued. Correct it and send it again."}},
	"invoice.pa_accepted": {
		italian: {"Fattura accettata dall'amministrazione", "L'amministrazione ha accettato la fattura."},
		english: {"Invoice accepted by the public body", "The public body accepted the invoice."}},
	"invoice.pa_refused": {
		italian: {"Fattura rifiutata dall'amministrazione", "L'amministrazione ha rifiutato la fattura."},
		english: {"Invoice refused by the public body", "The public body refused the invoice."}},
	"invoice.pa_term_expired": {
		italian: {"Decorrenza dei termini", "L'amministrazione non ha risposto entro quindici giorni."},
		english: {"Term expired", "The public body did not answer within fifteen days."}},
	"invoice.attested": {
		italian: {"Attestazione di trasmissione", "La consegna all'amministrazione è impossibile; l'attestazione prova la trasmissione."},
		english: {"Transmission attested", "Delivery to the public body is impossible; the attestation proves the transmission."}},
	"invoice.receipt_overdue": {
		italian: {"Nessuna ricevuta dal Sistema di Interscambio", "Sono passati cinque giorni dalla trasmissione senza ricevute: l'esito va verificato nel portale. Non inviate di nuovo la fattura."},
		english: {"No receipt from the exchange system (SdI)", "Five days have passed since transmission without a receipt: look the outcome up in the portal. Do not send the invoice again."}},
	"invoice.resend_due": {
		italian: {"Fattura scartata: il termine si avvicina", "La fattura scartata va corretta e inviata di nuovo entro cinque giorni dallo scarto."},
		english: {"Rejected invoice: the term is near", "A rejected invoice is to be corrected and sent again within five days of the rejection."}},
	"invoice.resend_expired": {
		italian: {"Fattura scartata: termine scaduto", "I cinque giorni per inviare di nuovo la fattura scartata sono passati: può essere dovuta una sanzione."},
		english: {"Rejected invoice: the term has passed", "The five days for sending the rejected invoice again have passed: a fine may be due."}},
	"invoice.pa_silent": {
		italian: {"L'amministrazione non ha risposto", "Sono passati quindici giorni senza esito. Il silenzio non è né accettazione né rifiuto."},
		english: {"The public body has not answered", "Fifteen days have passed without an outcome. Silence is neither acceptance nor refusal."}},
	"preservation.taken_in_charge": {
		italian: {"Fattura in conservazione", "La fattura e le sue ricevute sono state prese in carico dalla conservazione."},
		english: {"Invoice in custody", "The invoice and its receipts were taken in charge by the archive."}},
	"preservation.sealed": {
		italian: {"Fattura conservata", "Il pacchetto di archiviazione che contiene la fattura è stato firmato e marcato."},
		english: {"Invoice preserved", "The archival package that holds the invoice was signed and time-stamped."}},
	"preservation.log_stated": {
		italian: {"Stato del registro di conservazione", "Il registro delle prove è stato controfirmato e marcato: conservi questo avviso, serve a verificare il registro senza di noi."},
		english: {"State of the archive's log", "The log of evidence was cosigned and time-stamped: keep this notice, by it the log can be checked without us."}},
	"pec.message_received": {
		italian: {"PEC ricevuta", "Un messaggio è arrivato nella casella ed è stato conservato come è giunto."},
		english: {"Certified mail received", "A message came into the mailbox and was kept as it came."}},
	"pec.receipt_verified": {
		italian: {"Ricevuta PEC verificata", "Una ricevuta di un messaggio inviato è stata verificata."},
		english: {"Receipt verified", "A receipt about a message sent was verified."}},
	"pec.delivery_state_changed": {
		italian: {"Stato della PEC", "Lo stato di un messaggio inviato è cambiato."},
		english: {"State of certified mail", "The state of a message sent changed."}},
	mailboxEvent: {
		italian: {"Casella PEC da verificare", "La casella richiede attenzione: il motivo è indicato qui sotto."},
		english: {"Mailbox needs attention", "Somebody has to look after the mailbox: the reason is below."}},
	"pec.decision_needed": {
		italian: {"PEC di esito ignoto: occorre decidere", "Non si sa se il gestore abbia preso il messaggio e nessuna ricevuta è giunta. Non viene inviato di nuovo da solo."},
		english: {"Outcome of certified mail unknown: decide", "Nobody knows whether the provider took the message, and no receipt has come. It is not sent again by itself."}},
	"pec.delivery_stalled": {
		italian: {"PEC in ritardo", "Un messaggio inviato non risulta accettato o consegnato nei tempi previsti: se urge, usate un'altra via."},
		english: {"Certified mail overdue", "A message sent was not accepted or delivered within the time that the rules allow: when it is urgent, use another way."}},
	"pec.delivered_content_differs": {
		italian: {"Contenuto consegnato diverso", "La ricevuta di consegna riporta un contenuto diverso da quello inviato."},
		english: {"Delivered content differs", "The delivery receipt repeats another content than the one that was sent."}},
	"pec.delivery_doubted": {
		italian: {"Ricevuta non più provata", "Lo stato di un messaggio inviato poggia su una ricevuta la cui firma non è più riconosciuta: lo stato resta, decidete voi."},
		english: {"Receipt not proven any more", "The state of a message sent stands on a receipt whose signature counts no more: the state stays, and you decide."}},
	"pec.claim_not_proven": {
		italian: {"Possibile falsa ricevuta PEC", "È giunto un messaggio che si dice ricevuta o busta di posta certificata e non è provato: può essere falso. Nessuno stato è cambiato."},
		english: {"Certified mail that may be forged", "A message came that says that it is a receipt or an envelope of certified mail, and is not proven: it may be forged. No state has changed."}},
	"credential.push_requested": {
		italian: {"Richiesta di approvazione", "L'app del titolare è chiamata ad approvare una richiesta."},
		english: {"Approval asked for", "The app of a holder is asked to approve."}},
	"credential.used": {
		italian: {"Firma autorizzata", "Il titolare ha autorizzato delle firme con PIN e dispositivo."},
		english: {"Signatures authorized", "A holder authorized signatures with PIN and device."}},
	"credential.device_changed": {
		italian: {"Dispositivo della firma cambiato", "PIN, dispositivo o recapiti di una credenziale di firma sono cambiati."},
		english: {"Signing device changed", "PIN, device or contact of a signing credential changed."}},
	"credential.expiring": {
		italian: {"Certificato in scadenza", "Il certificato di una credenziale di firma scade presto: va rinnovato."},
		english: {"Certificate expires soon", "The certificate of a signing credential expires soon: renew it."}},
	"credential.state_changed": {
		italian: {"Stato della credenziale", "Lo stato di una credenziale di firma è cambiato."},
		english: {"State of a credential", "The state of a signing credential changed."}},
	"signature_request.created": {
		italian: {"Pratica di firma avviata", "La pratica è stata avviata e i primi partecipanti sono stati avvisati."},
		english: {"Signature request opened", "The request was opened and its first participants were asked."}},
	"signature_request.viewed": {
		italian: {"Documenti visti", "Un partecipante ha visto i documenti della pratica."},
		english: {"Documents viewed", "A participant viewed the documents of the request."}},
	"signature_request.approved": {
		italian: {"Pratica approvata da un partecipante", "Un partecipante ha approvato i documenti."},
		english: {"Approved by a participant", "A participant approved the documents."}},
	"signature_request.signed": {
		italian: {"Pratica firmata da un partecipante", "Un partecipante ha firmato i documenti."},
		english: {"Signed by a participant", "A participant signed the documents."}},
	"signature_request.refused": {
		italian: {"Pratica rifiutata", "Un partecipante ha rifiutato."},
		english: {"Signature request refused", "A participant refused."}},
	"signature_request.withdrawn": {
		italian: {"Pratica ritirata", "La pratica è stata ritirata da chi l'ha avviata."},
		english: {"Signature request withdrawn", "The request was withdrawn by who opened it."}},
	"signature_request.expired": {
		italian: {"Pratica scaduta", "Il termine della pratica è passato."},
		english: {"Signature request expired", "The deadline of the request has passed."}},
	"signature_request.delegated": {
		italian: {"Delega", "Un partecipante ha dato o revocato una delega."},
		english: {"Delegation", "A participant gave or ended a delegation."}},
	"signature_request.reassigned": {
		italian: {"Partecipante sostituito", "Un'altra persona ha preso il posto di un partecipante."},
		english: {"Participant replaced", "Another person took the place of a participant."}},
	"signature_request.reminded": {
		italian: {"Sollecito inviato", "I partecipanti di turno sono stati sollecitati."},
		english: {"Reminder sent", "The participants whose turn it is were reminded."}},
	"signature_request.sealed": {
		italian: {"Fascicolo pronto", "Il fascicolo della pratica, con i documenti e il registro, può essere scaricato."},
		english: {"Bundle ready", "The bundle of the request, with documents and audit trail, can be downloaded."}},
	calledSigner: {
		italian: {"Documenti da firmare", "È il vostro turno: vi sono documenti da vedere e firmare. Si fa nell'applicazione da cui vi è stato annunciato."},
		english: {"Documents to sign", "It is your turn: there are documents to view and sign, in the application that told you of them."}},
	calledApprover: {
		italian: {"Documenti da approvare", "È il vostro turno: vi sono documenti da vedere e approvare. Si fa nell'applicazione da cui vi è stato annunciato."},
		english: {"Documents to approve", "It is your turn: there are documents to view and approve, in the application that told you of them."}},
	remindedSigner: {
		italian: {"Sollecito: documenti da firmare", "Vi sono ancora documenti da vedere e firmare."},
		english: {"Reminder: documents to sign", "There are still documents to view and sign."}},
	remindedApprover: {
		italian: {"Sollecito: documenti da approvare", "Vi sono ancora documenti da vedere e approvare."},
		english: {"Reminder: documents to approve", "There are still documents to view and approve."}},
}

// details are the fields of the payload that a mail shows, with their names.
var details = []struct{ field, italian, english string }{
	{"mailbox_address", "Casella", "Mailbox"},
	{"sdi_id", "Identificativo SdI", "SdI id"},
	{"file_name", "Nome del file", "File name"},
	{"code", "Codice", "Code"},
	{"message", "Messaggio", "Message"},
	{"description", "Descrizione", "Description"},
	{"package", "Pacchetto", "Package"},
	{"resend_by_time", "Da inviare entro", "To be sent by"},
	{"due_time", "Termine", "Term"},
	{"deadline", "Termine", "Deadline"},
	{"kind", "Tipo", "Kind"},
	{"state", "Stato", "State"},
	{"change", "Cambiamento", "Change"},
	{"expire_time", "Scadenza", "Expires"},
	{"documents_sha256", "Impronta", "Digest"},
	{"push_request", "Richiesta", "Request"},
}

// compose writes subject and text of the mail about a delivery. Nothing of the document is in it.
func compose(row db.Delivery, language string) (subject, text string, err error) {
	var payload struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(row.Payload, &payload); err != nil {
		return "", "", fmt.Errorf("notification: payload of %s: %w", row.ID, err)
	}
	p := phraseOf(row.EventType, language, payload.Data)
	labels := map[string]string{"invoice": "Fattura", "time": "Data", "footer": "Messaggio automatico. Il documento si legge con l'API o con la riga di comando."}
	if language == english {
		labels = map[string]string{"invoice": "Invoice", "time": "Time", "footer": "Automatic message. The document can be read through the API or the command line."}
	}
	about := labels["invoice"]
	switch {
	case strings.HasPrefix(row.EventType, "pec."):
		about = "PEC"
	case strings.HasPrefix(row.EventType, "signature_request.") && language == english:
		about = "Signature request"
	case strings.HasPrefix(row.EventType, "signature_request."):
		about = "Pratica"
	}
	if strings.HasPrefix(row.EventType, "credential.") {
		about = map[string]string{italian: "Credenziale", english: "Credential"}[language]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\r\n\r\n%s: %s\r\n%s: %s\r\n", p.sentence, about, row.Invoice, labels["time"], row.EventTime.UTC().Format(time.RFC3339))
	for _, d := range details {
		value, _ := payload.Data[d.field].(string)
		if value == "" {
			continue
		}
		label := d.italian
		if language == english {
			label = d.english
		}
		fmt.Fprintf(&b, "%s: %s\r\n", label, oneLine(value))
	}
	list, _ := payload.Data["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		fmt.Fprintf(&b, "- %s\r\n", oneLine(fmt.Sprint(m["code"], " ", m["message"])))
	}
	fmt.Fprintf(&b, "\r\n%s\r\n", labels["footer"])
	called := row.Invoice[strings.LastIndexByte(row.Invoice, '/')+1:]
	if address, _ := payload.Data["mailbox_address"].(string); address != "" { // events of before do not say it
		called = oneLine(address)
	}
	return p.subject + " (" + called + ")", b.String(), nil
}

// oneLine keeps a text that came from outside from breaking the layout of a mail.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
