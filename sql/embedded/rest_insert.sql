insert into {table} ({columns}) select {columns} from {payload} returning {returning}
