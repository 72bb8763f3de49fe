module example.org/atm

go 1.19
