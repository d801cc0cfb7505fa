select {function}({arguments}) as pgrst_scalar from {payload} (values (1)) as once
