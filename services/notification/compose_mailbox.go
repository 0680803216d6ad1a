package notification

// mailboxEvent is the type of everything that somebody should know of a mailbox.
const mailboxEvent = "pec.mailbox_degraded"

// mailboxPhrases say by its code what is the matter with a mailbox of certified mail: most of them do not end its being read.
var mailboxPhrases = map[string]map[string]phrase{
	"PASSWORD_EXPIRING": {
		italian: {"Password della casella PEC in scadenza", "La password della casella scade presto: va cambiata presso il gestore e poi data alla piattaforma. Fino ad allora la casella è presidiata."},
		english: {"Mailbox password expires soon", "The password of the mailbox expires soon: change it with the provider, then give it to the platform. Until then the mailbox is presided over."}},
	"PASSWORD_EXPIRED": {
		italian: {"Password della casella PEC scaduta", "Il termine della password della casella è passato: se il gestore la rifiuta, nulla parte e nulla è letto finché non se ne dà una nuova."},
		english: {"Mailbox password has expired", "The term of the mailbox's password has passed: when the provider refuses it, nothing leaves and nothing is read until a new one is given."}},
	"MAILBOX_EXPIRING": {
		italian: {"Casella PEC in scadenza", "Il contratto della casella finisce presto: va rinnovato presso il gestore, e la nuova data data alla piattaforma. Dopo la scadenza nulla parte; ciò che arriva è ricevuto."},
		english: {"Mailbox contract ends soon", "The contract of the mailbox ends soon: renew it with the provider and give the platform the new date. After its end nothing leaves; what comes in is received."}},
	"MAILBOX_EXPIRED": {
		italian: {"Casella PEC scaduta", "Il contratto della casella è finito: nulla parte, e ciò che ancora arriva è ricevuto. I gestori cancellano le caselle scadute qualche tempo dopo."},
		english: {"Mailbox contract has ended", "The contract of the mailbox has ended: nothing leaves, and what still comes in is received. Providers delete such mailboxes some time later."}},
	"MAILBOX_QUOTA": {
		italian: {"Casella PEC: spazio in esaurimento", "Lo spazio della casella presso il gestore si esaurisce: quando è piena, i messaggi vengono rifiutati ai mittenti."},
		english: {"Mailbox is filling up", "The room of the mailbox at its provider comes to its end: a full mailbox has messages returned to their senders."}},
	"MAILBOX_ROOM_IMPOSSIBLE": {
		italian: {"Casella PEC: spazio non recuperabile", "La regola chiede di fare spazio nella casella, e il server del gestore non lo permette: va fatto nelle pagine del gestore."},
		english: {"No room can be made in the mailbox", "The rule asks for room in the mailbox, and the provider's server does not allow it: make it at the provider's own pages."}},
	"MAILBOX_READ_ONLY": {
		italian: {"Casella PEC sospesa dal gestore", "Il gestore non lascia cambiare nulla nella casella, come quando il contratto è finito. Ciò che vi è viene scaricato tutto: i gestori cancellano tali caselle."},
		english: {"Mailbox suspended by its provider", "The provider lets nothing be changed in the mailbox, as when its contract has ended. All that is there is being fetched: providers delete such mailboxes."}},
	"MAILBOX_AUTH_FAILED": {
		italian: {"Casella PEC: accesso rifiutato", "Il gestore rifiuta la password della casella, o l'accesso IMAP è spento: la casella non è letta finché non si interviene."},
		english: {"Mailbox refuses the login", "The provider refuses the password of the mailbox, or has IMAP switched off: it is not read until somebody acts."}},
	"SENDING_LOGIN_REFUSED": {
		italian: {"Casella PEC: invio fermo", "Il gestore rifiuta la password per l'invio: ciò che attende parte appena se ne dà una nuova. La lettura può continuare."},
		english: {"Mailbox does not send", "The provider refuses the password for sending: what waits leaves as soon as a new one is given. Reading may go on."}},
	"SENDING_SUSPENDED": {
		italian: {"Casella PEC: invio sospeso dal gestore", "Il gestore non lascia partire nulla dalla casella: la questione va definita con lui, poi gli invii si riprendono. Ciò che arriva è ricevuto."},
		english: {"Provider suspended sending", "The provider lets nothing leave the mailbox: settle it with him, then resume sending. What comes in is received."}},
	"SENDING_TLS": {
		italian: {"Casella PEC: server d'invio non fidato", "Il certificato del server d'invio non è riconosciuto: nulla è stato inviato finché non è chiarito."},
		english: {"Server for sending is not trusted", "The certificate of the server for sending is not accepted: nothing was sent to it, and nothing is until that is settled."}},
	"SENDING_SILENT": {
		italian: {"Casella PEC: accettazioni mancanti", "Il gestore ha preso dei messaggi e non ne giunge l'accettazione. Non inviateli di nuovo prima di aver guardato nel registro del gestore."},
		english: {"Acceptances are missing", "The provider took messages and no acceptance of them comes. Do not send them again before a look into the provider's log."}},
	"MESSAGE_UNFETCHABLE": {
		italian: {"Casella PEC: un messaggio non si scarica", "Il gestore non consegna un messaggio della casella: gli altri sono letti, e quello è chiesto di nuovo più volte."},
		english: {"A message cannot be fetched", "The provider does not hand out a message of the mailbox: the others are read, and that one is asked for again."}},
	"ARCHIVE_DAMAGED": {
		italian: {"Archivio della casella PEC danneggiato", "L'archivio non restituisce dei messaggi come erano giunti: quelli che il gestore ha ancora sono scaricati di nuovo, gli altri vanno ripristinati."},
		english: {"Archive of the mailbox is damaged", "The archive does not give back messages as they came: those that the provider still has are fetched again, the others have to be restored."}},
}

// phraseOf is what a mail about an event says.
func phraseOf(eventType, language string, data map[string]any) phrase {
	if code, _ := data["code"].(string); eventType == mailboxEvent {
		if p, ok := mailboxPhrases[code][language]; ok {
			return p
		}
	}
	if p, ok := phrases[eventType][language]; ok {
		return p
	}
	return phrase{eventType, eventType}
}
