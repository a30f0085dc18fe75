module github.com/millpond/millpond/internal/sdk/gocent

go 1.26.0

require github.com/centrifugal/gocent v2.2.0+incompatible
