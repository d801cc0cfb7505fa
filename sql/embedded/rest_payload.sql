(select {body}::json as json_data) as pgrst_payload,
lateral (select {names} from {expand}(pgrst_payload.json_data) as _ ({typed}) {limit}) as pgrst_body
