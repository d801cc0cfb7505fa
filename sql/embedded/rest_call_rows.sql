select pgrst_call.* from {payload} {function}({arguments}) as pgrst_call
