// Package witness is what somebody runs who watches a log for others: a folder with a key and, for each
// log, the last checkpoint that was cosigned, behind the HTTP interface of C2SP tlog-witness. It also has
// the client with which a log asks for cosignatures.
//
// It owns the order in which state and signature come to be: the checkpoint is on disk, synced, before its
// cosignature leaves, so that no crash and no second request make it sign two histories. What a log showed that
// contradicts what was cosigned is kept as evidence.
//
// It refuses to begin a log again whose state is gone or damaged, to be opened twice at once, and to
// cosign for a log that nobody told it to trust. It cannot notice that its folder was set back to an older copy:
// the folder is not to be restored from a backup; make a new witness with a new name instead.
package witness
