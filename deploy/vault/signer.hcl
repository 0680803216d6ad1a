# What the signer may do, and nothing else. One path block per act; the glob "+"
# stands for one segment, the key's name: all keys of a mount are meant, so that the
# mounts have to be the signer's alone. (A name that ends in "*" would let further
# segments through, such as the other hash of transit/sign/KEY/sha1.)

# Make a key. It can never leave Vault: exportable and plaintext backup may only be
# false, and the key's config, export, backup, import and deletion are not granted.
path "transit/keys/+" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "type"                   = ["ecdsa-p256", "rsa-3072", "rsa-4096"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
  }
}

# Make the next version of a key, for a renewal. Which version signs is pinned by the signer.
path "transit/keys/+/rotate" {
  capabilities = ["create", "update"]
  allowed_parameters = {}
}

# Ask Vault for a certificate request signed by the key itself.
path "transit/keys/+/csr" {
  capabilities = ["create", "update"]
}

# Sign a digest, never a document: Vault sees hashes only. Without prehashed it would
# hash what it is given.
path "transit/sign/+" {
  capabilities        = ["create", "update"]
  required_parameters = ["prehashed"]
  allowed_parameters = {
    "input"                = []
    "batch_input"          = []
    "key_version"          = []
    "prehashed"            = [true]
    "hash_algorithm"       = ["sha2-256"]
    "signature_algorithm"  = ["pkcs1v15"]
    "marshaling_algorithm" = ["asn1"]
  }
}

# Mix a key that never leaves Vault into what is kept of PINs and spent passwords: who has
# the database alone can try none.
path "transit/hmac/+" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "batch_input" = []
    "key_version" = []
    "algorithm"   = ["sha2-256"]
  }
}

# Enrol a one-time code generator and check a code. Reading totp/code would make
# codes, which only the holder of the device may.
path "totp/keys/+" {
  capabilities = ["create", "update", "delete"]
}
path "totp/code/+" {
  capabilities = ["create", "update"]
}

# Seeds of hardware tokens: taken in wrapped, used for codes, deleted when a token is retired; never read.
path "oath/wrapping_key" {
  capabilities = ["read"]
}
path "oath/keys/+" {
  capabilities = ["read", "delete"]
}
path "oath/keys/+/import" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "ciphertext"             = []
    "type"                   = ["hmac"]
    "hash_function"          = ["SHA256"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
    "allow_rotation"         = [false]
  }
}
path "oath/keys/+/config" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "deletion_allowed" = [true]
  }
}
path "oath/hmac/+" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "batch_input" = []
    "key_version" = []
    "algorithm"   = ["sha1", "sha2-256", "sha2-512"]
  }
}

# The signer's own configuration secrets.
path "secret/data/signer/*" {
  capabilities = ["read"]
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
