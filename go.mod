module roundel

go 1.26
