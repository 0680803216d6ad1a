package imap

import "fmt"

// Select opens a folder for reading and writing. spec: RFC3501 §6.3.1
func (c *Client) Select(folder string) (Status, error) { return c.open("SELECT", folder) }

// CanRemove says whether single messages can be removed: without UIDPLUS everything that anybody marked would go with them.
func (c *Client) CanRemove() bool { return c.Has("UIDPLUS") }

// Remove removes messages of the folder that Select opened, and no others that somebody may have marked. They are not moved
// anywhere: a full mailbox has no room for that. spec: RFC3501 §6.4.6; RFC4315 §2.1
func (c *Client) Remove(uids []uint32) error {
	if len(uids) == 0 {
		return nil
	}
	if !c.CanRemove() {
		return fmt.Errorf("imap: the server cannot remove single messages (UIDPLUS)")
	}
	err := c.run("UID STORE", set(uids)+` +FLAGS.SILENT (\Deleted)`, nil)
	if err != nil {
		return err
	}
	return c.run("UID EXPUNGE", set(uids), nil)
}
