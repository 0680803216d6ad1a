# What the pec-gateway may do, and nothing else: keep the passwords of mailboxes, one secret
# for each, below a prefix of its own.

# Write a password, and read it to log in with. No listing: the database knows which there are.
path "secret/data/pec-gateway/mailboxes/+/+" {
  capabilities = ["create", "update", "read"]
}

# Forget all versions of a password, when a mailbox was not made after all.
path "secret/metadata/pec-gateway/mailboxes/+/+" {
  capabilities = ["delete"]
}

# Keep its own token alive.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
