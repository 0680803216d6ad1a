module ceralacca.dev/migrations

go 1.26
